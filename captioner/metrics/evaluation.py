"""Evaluation of captions: the scores of the corpus and of each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from captioner import __version__
from captioner.errors import CaptionerError
from captioner.metrics.bleu import BleuCounts, count_bleu
from captioner.metrics.cider import cider
from captioner.metrics.ngrams import MAX_ORDER, Floats, index_corpus
from captioner.metrics.rouge import rouge_l
from captioner.text.tokenization import Tokenization, TokenizerName
from captioner.utils.image_ids import match_ids

ImageId = TypeVar("ImageId", int, str, "int | str")

Tokens = list[str]

BLEU_NAMES = tuple(f"BLEU-{order}" for order in range(1, MAX_ORDER + 1))


@dataclass(frozen=True)
class Evaluation(Generic[ImageId]):
    """Scores of the captions of a set of images, by the COCO protocol.

    Attributes:
        images: The images, in the order of the candidates.
        hypotheses: The tokens of the caption of each image.
        references: The tokens of the references of each image.
        bleu: The counts of BLEU for each image.
        means: ROUGE-L in [0, 1] and CIDEr (CIDEr-D) in [0, 10] of each image, by name, shape (images,); their means are
            the scores of the corpus.
        tokenization: How captions became tokens.
    """

    images: tuple[ImageId, ...]
    hypotheses: list[Tokens]
    references: list[list[Tokens]]
    bleu: BleuCounts
    means: dict[str, Floats]
    tokenization: Tokenization

    def signature(self) -> str:
        """What was counted, for others to compare with: entries in the form of sacreBLEU's signatures.

        The number of images and of references each (``var``: they differ), the entries of the tokenization, and the
        version of this project.
        """
        counts = {len(group) for group in self.references}
        entries = {
            "images": len(self.images),
            "nrefs": counts.pop() if len(counts) == 1 else "var",
            **self.tokenization.signature(),
            "captioner": __version__,
        }
        return "|".join(f"{name}:{value}" for name, value in entries.items())

    def corpus(self) -> dict[str, float]:
        """Scores of the corpus by name."""
        parts = (self.bleu.correct, self.bleu.guessed, self.bleu.length, self.bleu.closest)
        whole = BleuCounts(*(part.sum(axis=0) for part in parts)).scores()
        means = {name: float(values.mean()) for name, values in self.means.items()}
        return dict(zip(BLEU_NAMES, whole.tolist(), strict=True)) | means

    def per_image(self) -> dict[ImageId, dict[str, float]]:
        """Scores of each image by name."""
        columns = dict(zip(BLEU_NAMES, self.bleu.scores().T, strict=True)) | self.means
        rows = zip(*(values.tolist() for values in columns.values()), strict=True)
        return {image: dict(zip(columns, row, strict=True)) for image, row in zip(self.images, rows, strict=True)}


def evaluate(
    candidates: Mapping[ImageId, str],
    references: Mapping[ImageId, Sequence[str]],
    tokenization: Tokenization = Tokenization(),  # noqa: B008 (frozen)
) -> Evaluation[ImageId]:
    """Score one caption per image against its references.

    Args:
        candidates: The caption of each image.
        references: The reference captions of each image, at least one. Ids that differ from those of the candidates in
            their type only, as 1 and "1", refer to the same image.
        tokenization: How captions become tokens; the default gives the official scores.

    Returns:
        The scores. CIDEr takes its document frequencies from these very references: scores of different sets of images
        are not comparable, and the score of a single image is 0.

    Raises:
        CaptionerError: There is no image, the two have different images, or an image has no reference.
    """
    candidates = _named_alike(candidates, references)
    _check(candidates, references)
    images = tuple(candidates)
    hypotheses = tokenization([candidates[image] for image in images])
    remaining = iter(tokenization([reference for image in images for reference in references[image]]))
    grouped = [[next(remaining) for _ in references[image]] for image in images]
    corpus = spaced = index_corpus(hypotheses, grouped)
    # The official code splits tokens in two ways: a token that spans a space ("2 1/2") is two words to BLEU and CIDEr,
    # and a caption without words is one empty word to ROUGE.
    if any("\xa0" in word for word in corpus.vocabulary):
        corpus = index_corpus([_parted(h) for h in hypotheses], [[_parted(r) for r in group] for group in grouped])
    if not (all(hypotheses) and all(reference for group in grouped for reference in group)):
        spaced = index_corpus([h or [""] for h in hypotheses], [[r or [""] for r in group] for group in grouped])
    means = {"ROUGE-L": rouge_l(spaced), "CIDEr": cider(corpus)}
    return Evaluation(images, hypotheses, grouped, count_bleu(corpus), means, tokenization)


def score(
    candidates: Mapping[ImageId, str],
    references: Mapping[ImageId, Sequence[str]],
    tokenizer: TokenizerName = "ptb",
    lowercase: bool = False,
) -> dict[str, float]:
    """Compute the scores of a corpus by name, those of `evaluate`.

    Args:
        candidates: The caption of each image.
        references: The reference captions of each image, at least one.
        tokenizer: ``ptb``, the official one, for English, or one of sacreBLEU's, as `Tokenization` lists them.
        lowercase: Whether capitals count as small letters; with ``ptb`` they always do.

    Returns:
        BLEU-1 to BLEU-4 and ROUGE-L in [0, 1], CIDEr (CIDEr-D) in [0, 10].

    Raises:
        CaptionerError: There is no image, the two have different images, an image has no reference, or the tokenizer
            is unknown or not installed.
    """
    return evaluate(candidates, references, Tokenization(tokenizer, lowercase)).corpus()


def _parted(tokens: Tokens) -> Tokens:
    return [part for token in tokens for part in token.split()]


def _named_alike(
    candidates: Mapping[ImageId, str], references: Mapping[ImageId, Sequence[str]]
) -> Mapping[ImageId, str]:
    """Candidates by the ids of the references, where they are the same images by ids of another type, as "1" and 1."""
    if not isinstance(candidates, Mapping) or not isinstance(references, Mapping):
        return candidates
    if candidates.keys() == references.keys():
        return candidates
    found: dict[Any, Any] = match_ids(candidates, references)
    if len(found) < len(candidates) or len(set(found.values())) < len(found):
        return candidates
    return {found[image]: caption for image, caption in candidates.items()}


def _check(candidates: Mapping[ImageId, str], references: Mapping[ImageId, Sequence[str]]) -> None:
    for given, what in ((candidates, "captions"), (references, "references")):
        if not isinstance(given, Mapping):
            raise CaptionerError(f"{what} are a {type(given).__name__}; give a dictionary from images to them")
    if not candidates:
        raise CaptionerError("there is no caption to score; give at least one")
    for have, lack, what in ((candidates, references, "reference"), (references, candidates, "caption")):
        missing = [image for image in have if image not in lack]
        if missing:
            others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise CaptionerError(
                f"image {missing[0]!r}{others} has no {what}; captions and references must name the same images"
            )
    for image in references:
        texts: Any = references[image]  # untrusted, may be anything
        if isinstance(texts, str):
            raise CaptionerError(f"image {image!r}: its references are one text; give a list of texts")
        if not texts:
            raise CaptionerError(f"image {image!r} has no reference; give at least one")
        if not all(isinstance(text, str) for text in (candidates[image], *texts)):
            raise CaptionerError(f"image {image!r}: a caption is not text; give texts")
