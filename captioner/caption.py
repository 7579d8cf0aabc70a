"""A caption with its words, probabilities and attention maps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from captioner.errors import CaptionerError
from captioner.text.vocabulary import join_words

TRAINED_TO_LOOK = (
    "use a model trained with decoder.attention (in an ensemble all, on one grid, resized alike, and all adaptive "
    "or none)"
)
"""Cure in messages about captions without maps (`Captioner.shows_attention`)."""


@dataclass(frozen=True)
class Caption:
    """A caption with its scores.

    Attributes:
        words: Its words.
        word_log_probabilities: Natural logarithm of the probability of each word, then of END (missing if the caption
            was cut at the maximum length). A prompt's words have theirs, too.
        attention: Attention map of each word, float32, shape (words, rows, columns), each sums to 1; None for a model
            without attention, and for an ensemble with different grids.
        region: The part of the upright photograph that the maps cover: left, top, right and bottom edge as fractions
            of its width and height.
        alternatives: Further captions of the same image, the best first.
        looking_away: Sentinel weight of each word, in [0, 1]: how little the decoder relied on the image; None for a
            model without adaptive attention.
        confidence: Probability that everything the caption names is in the image, in [0, 1]; None for an uncalibrated
            model, and for a scored caption.
        given: Number of words at the beginning that are the prompt's. Log-probability and perplexity are of those
            after them.
        source: The image as passed to `Captioner.caption`, for notebooks; None if unknown.
        joined: The caption as a line of text, if words are joined otherwise than by `join_words`.
    """

    words: tuple[str, ...]
    word_log_probabilities: tuple[float, ...]
    attention: np.ndarray | None = field(compare=False)  # == of arrays is not a bool
    region: tuple[float, float, float, float]
    alternatives: tuple[Caption, ...] = ()
    looking_away: tuple[float, ...] | None = None
    confidence: float | None = None
    given: int = 0
    source: Any = field(default=None, compare=False)
    joined: str | None = None

    def __repr__(self) -> str:
        maps = "none" if self.attention is None else " x ".join(map(str, self.attention.shape))
        more = f", {len(self.alternatives)} more" if self.alternatives else ""
        return f"Caption({self.text!r}, log_probability={self.log_probability:.2f}, attention {maps}{more})"

    def _repr_html_(self) -> str:
        """The image, the words and their maps as HTML, for notebooks."""
        from captioner.visualize.notebook import draw_caption

        return draw_caption(self, self.source)

    @property
    def text(self) -> str:
        """The caption as a line of text."""
        return join_words(self.words) if self.joined is None else self.joined

    @property
    def continuation(self) -> str:
        """What follows the prompt, as a line of text; the whole caption without one."""
        if self.joined is None:
            return join_words(self.words[self.given :])
        text = self.joined
        for word in self.words[: self.given]:
            text = text.lstrip().removeprefix(word)
        return text.lstrip()

    @property
    def log_probability(self) -> float:
        """Natural logarithm of the probability of the whole caption, or of what follows a prompt, given the prompt."""
        return sum(self.word_log_probabilities[self.given :])

    def facts(self) -> dict[str, Any]:
        """Text, log-probability and confidence as JSON values."""
        return {"caption": self.text, "log_probability": self.log_probability, "confidence": self.confidence}

    def is_sure(self, min_confidence: float) -> bool:
        """Whether its confidence, if it has one, reaches a minimum."""
        return self.confidence is None or self.confidence >= min_confidence

    @property
    def perplexity(self) -> float:
        """Perplexity per word: the number of equally likely words with the same uncertainty."""
        return math.exp(-self.log_probability / (len(self.word_log_probabilities) - self.given))


def describe(name: str, caption: Caption | CaptionerError, count: int, min_confidence: float = 0.0) -> dict[str, Any]:
    """Build the JSON object of an image; a caption of too low confidence is null.

    Args:
        name: The image's name.
        caption: Its caption, or why it has none.
        count: Captions that were asked for; of several, all are listed as ``captions``.
        min_confidence: The lowest confidence of a caption that is shown.
    """
    if isinstance(caption, CaptionerError):
        return {"image": name, "error": str(caption)}
    every = [
        {**each.facts(), **({} if each.is_sure(min_confidence) else {"caption": None})}
        for each in (caption, *caption.alternatives)
    ]
    return {"image": name, **every[0], **({"captions": every} if count > 1 else {})}
