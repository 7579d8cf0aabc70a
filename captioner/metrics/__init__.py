"""Caption scores by the COCO protocol, in Python: BLEU-1 to 4, ROUGE-L and CIDEr-D over PTB tokens.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from captioner.errors import CaptionerError
from captioner.metrics.bleu import corpus_bleu
from captioner.metrics.cider import corpus_cider
from captioner.metrics.rouge import corpus_rouge_l
from captioner.metrics.tokenizer import tokenize

ImageId = TypeVar("ImageId", int, str, "int | str")


def score(candidates: Mapping[ImageId, str], references: Mapping[ImageId, Sequence[str]]) -> dict[str, float]:
    """Scores one caption an image against its references, over the whole corpus.

    Args:
        candidates: The caption of each image.
        references: The reference captions of each image, at least one.

    Returns:
        BLEU-1 to BLEU-4 and ROUGE-L in [0, 1], CIDEr (CIDEr-D) in [0, 10]. CIDEr weighs words by how many images of
        this very corpus have them: scores of different sets of images do not compare, and that of one image is 0.

    Raises:
        CaptionerError: There is no image, the two name different images, or an image has no reference.
    """
    if not candidates:
        raise CaptionerError("there is no caption to score; give at least one")
    for have, lack, what in ((candidates, references, "reference"), (references, candidates, "caption")):
        missing = next((image for image in have if image not in lack), None)
        if missing is not None:
            raise CaptionerError(f"image {missing!r} has no {what}; captions and references must name the same images")
    images = list(candidates)
    empty = next((image for image in images if not references[image]), None)
    if empty is not None:
        raise CaptionerError(f"image {empty!r} has no reference; give at least one")
    hypotheses = tokenize([candidates[image] for image in images])
    remaining = iter(tokenize([reference for image in images for reference in references[image]]))
    grouped = [[next(remaining) for _ in references[image]] for image in images]
    scores = {f"BLEU-{n}": value for n, value in enumerate(corpus_bleu(hypotheses, grouped), start=1)}
    scores["ROUGE-L"] = corpus_rouge_l(hypotheses, grouped)
    scores["CIDEr"] = corpus_cider(hypotheses, grouped)
    return scores
