"""Comparing sentences of different length."""

from __future__ import annotations

from torch import Tensor

from captioner.decoding.options import DecodingOptions


def rank(scores: Tensor, lengths: Tensor | float, options: DecodingOptions) -> Tensor:
    """Log-probabilities, normalised by length as the options say.

    Args:
        scores: Log-probabilities of sentences.
        lengths: Their words, END included; broadcast to the shape of ``scores``.
        options: Which normalisation, and its exponent.
    """
    if options.length_normalization == "gnmt":
        lengths = (5 + lengths) / 6
    return scores / lengths**options.length_penalty
