"""A caption: its words, how likely they are, and where the network looked."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from captioner.text.vocabulary import join_words

TRAINED_TO_LOOK = (
    "use a model trained with decoder.attention (in an ensemble all, on one grid, resized alike, and all adaptive "
    "or none)"
)
"""What captions with maps ask for (`Captioner.shows_attention`), as messages say it."""


@dataclass(frozen=True)
class Caption:
    """A caption and how it came about.

    Attributes:
        words: Its words.
        word_log_probabilities: Natural logarithm of the probability of each word, then of the end of the sentence
            (missing where the caption was cut at the longest length).
        attention: Where the decoder looked for each word, float32, shape (words, rows, columns), each map sums to 1;
            None for a model without attention, and for an ensemble that sees grids of several kinds.
        region: The part of the upright photograph that the maps cover: left, top, right and bottom edge as fractions
            of its width and height.
        alternatives: Further captions of the same photograph, the better ones first.
        looking_away: For each word the weight of the visual sentinel, in [0, 1]: how much the decoder relied on what it
            knew; None for a model without adaptive attention.
        confidence: Probability that the caption names nothing that is not there, in [0, 1]; None for a model that was
            not calibrated, and for a caption that was given.
        source: The photograph as `Captioner.caption` was given it, for a notebook; None where that is not known.
    """

    words: tuple[str, ...]
    word_log_probabilities: tuple[float, ...]
    attention: np.ndarray | None = field(compare=False)  # arrays have no one answer to ==
    region: tuple[float, float, float, float]
    alternatives: tuple[Caption, ...] = ()
    looking_away: tuple[float, ...] | None = None
    confidence: float | None = None
    source: Any = field(default=None, compare=False)

    def __repr__(self) -> str:
        maps = "none" if self.attention is None else " x ".join(map(str, self.attention.shape))
        more = f", {len(self.alternatives)} more" if self.alternatives else ""
        return f"Caption({self.text!r}, log_probability={self.log_probability:.2f}, attention {maps}{more})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the photograph, the words and their maps."""
        from captioner.visualize.notebook import draw_caption

        return draw_caption(self, self.source)

    @property
    def text(self) -> str:
        """The caption as a line of text."""
        return join_words(self.words)

    @property
    def log_probability(self) -> float:
        """Natural logarithm of the probability of the whole caption."""
        return sum(self.word_log_probabilities)

    def facts(self) -> dict[str, Any]:
        """Text, log-probability and confidence in plain values, as JSON tells them."""
        return {"caption": self.text, "log_probability": self.log_probability, "confidence": self.confidence}

    @property
    def perplexity(self) -> float:
        """How many words, equally likely, the network in effect chose from at each word."""
        return math.exp(-self.log_probability / len(self.word_log_probabilities))
