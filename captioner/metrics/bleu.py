"""BLEU (Papineni et al., 2002), with the constants of the COCO evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from captioner.metrics.ngrams import MAX_ORDER, Corpus, Floats, Ints, Order, find

_TINY = 1e-15
_SMALL = 1e-9
"""Constants that COCO's evaluation adds to numerators and denominators; they matter only where a count is 0."""


@dataclass(frozen=True)
class BleuCounts:
    """Counts that BLEU is computed from; those of a corpus are the sums over its images.

    Attributes:
        correct: Number of matching n-grams, clipped at the maximum count in a reference, shape (…, 4) for n = 1 … 4.
        guessed: Number of n-grams of the hypothesis, shape (…, 4).
        length: Length of the hypothesis in tokens, shape (…).
        closest: Length of the reference that is closest in length, the shorter one of two, shape (…).
    """

    correct: Floats
    guessed: Floats
    length: Floats
    closest: Floats

    def weighted(self, weights: Floats) -> BleuCounts:
        """Weighted sums over images, for weights of shape (sums, images)."""
        return BleuCounts(*(weights @ part for part in (self.correct, self.guessed, self.length, self.closest)))

    def scores(self) -> Floats:
        """Compute BLEU-1 to BLEU-4.

        BLEU-N is the geometric mean of the precisions correct_n / guessed_n, n = 1 … N, times the brevity penalty
        exp(1 - r/c) where the length c falls short of the closest length r.

        Returns:
            Values in [0, 1], shape (…, 4).
        """
        precision = (self.correct + _TINY) / (self.guessed + _SMALL)
        ratio = (self.length + _TINY) / (self.closest + _SMALL)
        penalty = np.exp(np.minimum(0, 1 - 1 / ratio))
        roots = 1 / np.arange(1, MAX_ORDER + 1)
        scores: Floats = np.cumprod(precision, axis=-1) ** roots * penalty[..., None]
        return scores


def count_bleu(corpus: Corpus) -> BleuCounts:
    """Count n-grams and lengths of each image."""
    lengths = corpus.hypotheses.lengths
    correct = np.stack([_correct(order, corpus.images) for order in corpus.orders], axis=1)
    guessed = np.stack([np.maximum(0, lengths - shorter) for shorter in range(MAX_ORDER)], axis=1)
    off = np.abs(corpus.references.lengths - lengths[corpus.image])
    best = np.lexsort((corpus.references.lengths, off, corpus.image))
    firsts = best[np.searchsorted(corpus.image, np.arange(corpus.images))]
    parts = (correct, guessed, lengths, corpus.references.lengths[firsts])
    return BleuCounts(*(part.astype(np.float64) for part in parts))


def _correct(order: Order, images: int) -> Ints:
    """Clipped n-gram matches of each image, shape (images,)."""
    hypotheses, references = order.hypotheses, order.references
    most = np.zeros(len(order.known), dtype=np.int64)
    np.maximum.at(most, order.group, references.times)
    indices, there = find(hypotheses.ngram * images + hypotheses.sentence, order.known)
    clipped = np.minimum(hypotheses.times[there], most[indices[there]])
    return np.bincount(hypotheses.sentence[there], clipped, minlength=images).astype(np.int64)
