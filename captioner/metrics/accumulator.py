"""Scores of captions that come in batches."""

from __future__ import annotations

from collections.abc import Sequence

from captioner.errors import CaptionerError
from captioner.metrics import meteor as _meteor
from captioner.metrics import spice as _spice
from captioner.metrics.evaluation import evaluate


class CaptionScores:
    """The scores of a corpus whose captions come in batches, with the methods of a torchmetrics metric.

    Captions are kept as text and scored together by `compute`, since the scores of batches have no mean that is the
    score of the corpus: BLEU sums counts, and CIDEr's document frequencies are those of all references.

    Args:
        meteor: Whether to compute METEOR, too, which needs Java and ``pip install 'captioner[coco]'``.
        spice: Whether to compute SPICE, too, which needs Java 14 or older and the parser's models.

    Raises:
        CaptionerError: Java, a jar or a model that is needed is missing.
    """

    def __init__(self, *, meteor: bool = False, spice: bool = False) -> None:
        if meteor:
            _meteor.refuse_without_java()
        if spice:
            _spice.refuse_without_java()
        self._jars = {
            **({"METEOR": _meteor.meteor} if meteor else {}),
            **({"SPICE": _spice.spice} if spice else {}),
        }
        self.reset()

    def update(self, candidates: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Add a batch.

        Args:
            candidates: A caption for each image.
            references: The reference captions of each image, at least one, in the same order. Their number may differ
                between images.

        Raises:
            CaptionerError: The two differ in length, a caption is not text, or an image has no reference. The batch is
                not added.
        """
        for given, what in ((candidates, "captions"), (references, "references")):
            if isinstance(given, str) or not isinstance(given, Sequence):
                raise CaptionerError(f"the {what} of a batch are a {type(given).__name__}; give a list")
        if len(candidates) != len(references):
            raise CaptionerError(
                f"the batch has {len(candidates)} captions and references of {len(references)} images; give one "
                "caption and one list of references for each image"
            )
        for caption, group in zip(candidates, references, strict=True):
            if isinstance(group, str) or not isinstance(group, Sequence) or not group:
                raise CaptionerError(f"the references of an image are {group!r}; give a list of at least one text")
            if not all(isinstance(text, str) for text in (caption, *group)):
                raise CaptionerError("a caption of the batch is not text; give texts")
        self._candidates += candidates
        self._references += map(tuple, references)

    def compute(self) -> dict[str, float]:
        """Compute the scores of everything added since the last `reset`.

        Returns:
            The scores by name, as `captioner.metrics.score` and ``captioner score`` compute them: BLEU-1 to BLEU-4 and
            ROUGE-L in [0, 1], CIDEr (CIDEr-D) in [0, 10], and METEOR and SPICE in [0, 1] where they were asked for.

        Raises:
            CaptionerError: Nothing was added, or a jar fails.
        """
        evaluation = evaluate(dict(enumerate(self._candidates)), dict(enumerate(self._references)))
        more = {name: jar(evaluation.hypotheses, evaluation.references)[0] for name, jar in self._jars.items()}
        return evaluation.corpus() | more

    def reset(self) -> None:
        """Forget everything that was added."""
        self._candidates: list[str] = []
        self._references: list[Sequence[str]] = []
