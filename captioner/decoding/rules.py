"""Rules of vocabularies whose tokens are parts of words, and beam search for the words that they require.

Everything is in NumPy's arrays, for decoding with torch and without.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from captioner.text.vocabulary import PAD


class TokenRules(Protocol):
    """What may come next, judged by the whole words that tokens make up.

    Attributes:
        max_words: Maximum number of whole words.
        required: Number of tokens of all required words; 0 for none.
    """

    max_words: int
    required: int

    def ruled_out(self, tokens: np.ndarray) -> np.ndarray:
        """Mask of the tokens that may not come next, shape (images, width, vocabulary).

        Args:
            tokens: The tokens so far, shape (images, width, steps).
        """

    def written(self, tokens: Sequence[int]) -> int:
        """Number of tokens of required words that a hypothesis has written, those of an unfinished word included."""

    def proposed(self, tokens: Sequence[int]) -> list[int]:
        """Tokens that begin or continue a required word that a hypothesis lacks."""


def choose_required(
    rules: TokenRules,
    beam_size: int,
    tokens: np.ndarray,
    ranks: np.ndarray,
    log_probabilities: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Select candidates for one beam for each number of required tokens written so far (Hokamp and Liu, 2017).

    Args:
        rules: The rules.
        beam_size: Size of each beam.
        tokens: The tokens so far, shape (images, width, steps).
        ranks: How the hypotheses compare with each next token, -inf for what is impossible, shape (images, width,
            vocabulary); of a finished one, PAD alone is possible.
        log_probabilities: Of the next tokens, of the same shape.

    Returns:
        Parents, tokens and log-probabilities of the candidates, each of shape (images, width).
    """
    images, width, _ = log_probabilities.shape
    parents = np.zeros((images, width), np.int64)
    chosen = np.full((images, width), PAD)
    values = np.full((images, width), -np.inf, np.float32)
    for image in range(images):
        beams: list[list[tuple[float, int, int, float]]] = [[] for _ in range(width // beam_size)]
        for place in np.flatnonzero((ranks[image] > -np.inf).any(1)).tolist():
            row, own = tokens[image, place].tolist(), ranks[image, place]
            likely = np.argsort(-own, kind="stable")[:beam_size].tolist()
            for token in dict.fromkeys([*likely, *rules.proposed(row)]):
                if own[token] > -np.inf:
                    value = float(log_probabilities[image, place, token])
                    beams[rules.written([*row, token])].append((float(own[token]), place, token, value))
        for number, candidates in enumerate(beams):
            best = sorted(candidates, key=lambda candidate: -candidate[0])[:beam_size]
            for slot, (_, place, token, value) in enumerate(best, number * beam_size):
                parents[image, slot], chosen[image, slot], values[image, slot] = place, token, value
    return parents, chosen, values
