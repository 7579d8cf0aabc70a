"""A captioner that needs no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from captioner.captioning import BaseCaptioner, Decoded, LoadedImage, TokenHypothesis
from captioner.decoding.options import DecodingOptions
from captioner.runtime.confidence import tell_confidences
from captioner.runtime.graphs import Encoded, Graphs
from captioner.runtime.hypotheses import Hypothesis, score
from captioner.runtime.search import decode
from captioner.utils.threads import told_threads
from captioner.whole_words import WholeWords


class OnnxCaptioner(BaseCaptioner):
    """An exported captioner, with the interface of `captioner.pipeline.Captioner`.

    Args:
        path: The encoder's ONNX file, made by ``captioner export``.

    Attributes:
        description: What is to be known beside the graphs.
        files: All that it is made of.

    Raises:
        CaptionerError: There is no such file, or it cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._graphs = Graphs(path)
        self.files = self._graphs.files
        self.description = self._graphs.description
        known = self.description
        threads = told_threads() or os.cpu_count() or 1
        super().__init__(known.vocabulary, known.card, known.transforms, known.grid or (1, 1), threads)

    @property
    def shows_attention(self) -> bool:
        """Whether its captions tell where the decoder looked."""
        return self.description.grid is not None

    @property
    def tells_confidence(self) -> bool:
        """Whether its captions have a confidence."""
        return self.description.confidence is not None

    def _decode(
        self, images: Sequence[LoadedImage], options: DecodingOptions, rules: WholeWords | None
    ) -> list[Decoded]:
        encoded = self._encode(images)
        found = decode(self._graphs, encoded.state, options, rules)
        known = self.description.confidence
        if known is None:
            return [Decoded(hypotheses) for hypotheses in found]
        confidences = tell_confidences(known, encoded.confidence, found)
        return [Decoded(hypotheses, each) for hypotheses, each in zip(found, confidences, strict=True)]

    def _score(self, image: LoadedImage, captions: Sequence[Sequence[int]]) -> list[Hypothesis]:
        return score(self._graphs, self._encode([image]).state, captions)

    def _attention(self, hypothesis: TokenHypothesis) -> np.ndarray | None:
        assert isinstance(hypothesis, Hypothesis)
        return hypothesis.attention

    def _encode(self, images: Sequence[LoadedImage]) -> Encoded:
        pixels = [np.stack([np.asarray(image.scaled[each]) for image in images]) for each in self._transforms]
        return self._graphs.encode(pixels)
