"""CIDEr-D (Vedantam et al., 2015), of a corpus and as a reward."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from captioner.metrics.ngrams import MAX_ORDER, Corpus, Floats, Ngrams, Order, find

SIGMA = 6.0
"""Standard deviation of the Gaussian length penalty, in bigrams."""

SCALE = 10.0


def cider(corpus: Corpus) -> Floats:
    """Compute CIDEr-D of each image: ten times the mean similarity of its hypothesis to its references.

    The tf-idf weight of an n-gram g is count(g) · log(images / images with g in a reference), n from 1 to 4. The
    similarity is the cosine of the weight vectors, those of the hypothesis clipped at the reference's, times
    exp(-Δ²/2σ²) for a length difference of Δ. The score of a corpus is the mean over its images.

    Args:
        corpus: The corpus, whose references also define the document frequencies: the score of an image depends on the
            other images, and is 0 for an image alone.

    Returns:
        Values in [0, 10], shape (images,).
    """
    similarity = sum(_similarity(corpus, order) for order in corpus.orders) / MAX_ORDER
    bigrams, others = (np.maximum(0, side.lengths - 1) for side in (corpus.hypotheses, corpus.references))
    similarity = similarity * np.exp(-((bigrams[corpus.image] - others) ** 2) / (2 * SIGMA**2))
    total = np.bincount(corpus.image, similarity, minlength=corpus.images)
    scores: Floats = SCALE * total / np.bincount(corpus.image, minlength=corpus.images)
    return scores


def _similarity(corpus: Corpus, order: Order) -> Floats:
    """Clipped cosine of each reference with the hypothesis of its image, shape (references,)."""
    hypotheses, references = order.hypotheses, order.references
    frequency = np.bincount(order.known // corpus.images, minlength=order.different)
    rarity = np.log(corpus.images) - np.log(np.maximum(1, frequency))
    own, others = (side.times * rarity[side.ngram] for side in (hypotheses, references))
    norms = _norms(hypotheses, own, corpus.images)[corpus.image] * _norms(references, others, len(corpus.image))
    wanted = references.ngram * corpus.images + corpus.image[references.sentence]
    indices, there = find(wanted, hypotheses.ngram * corpus.images + hypotheses.sentence)
    products = np.minimum(own[indices[there]], others[there]) * others[there]
    dots = np.bincount(references.sentence[there], products, minlength=len(corpus.image))
    return np.divide(dots, norms, out=np.zeros(len(dots)), where=norms > 0)


def _norms(ngrams: Ngrams, weights: Floats, sentences: int) -> Floats:
    return np.sqrt(np.bincount(ngrams.sentence, weights**2, minlength=sentences))


Words = Sequence[Hashable]


class CiderReward:
    """CIDEr-D of single captions, with the document frequencies of a whole corpus.

    Args:
        references: The tokens of the references of every image; tokens can be anything hashable, such as ids.
    """

    def __init__(self, references: Sequence[Sequence[Words]]) -> None:
        self.references = references
        frequency = Counter(
            ngram for group in references for ngram in {ngram for words in group for ngram in _ngrams(words)}
        )
        self._most = math.log(max(1, len(references)))
        # An n-gram of one image has the same weight as one of no image, and most are such: they need not be kept.
        self._rarity = {ngram: self._most - math.log(count) for ngram, count in frequency.items() if count > 1}

    def __call__(self, image: int, captions: Sequence[Words]) -> list[float]:
        """Compute CIDEr-D of captions of an image, in [0, 10].

        Args:
            image: Index of the image among the references.
            captions: The tokens of each caption.
        """
        references = [self._vector(words) for words in self.references[image]]
        return [self._score(self._vector(words), references) for words in captions]

    def _score(self, caption: _Vector, references: Sequence[_Vector]) -> float:
        return SCALE * sum(caption.similarity(reference) for reference in references) / len(references)

    def _vector(self, words: Words) -> _Vector:
        counts = Counter(_ngrams(words))
        weights = {ngram: count * self._rarity.get(ngram, self._most) for ngram, count in counts.items()}
        return _Vector(weights, len(words))


class _Vector:
    """Tf-idf weights of a caption, their norm for each order, and its length."""

    def __init__(self, weights: dict[tuple[Hashable, ...], float], words: int) -> None:
        self.weights = weights
        squares = [0.0] * MAX_ORDER
        for ngram, weight in weights.items():
            squares[len(ngram) - 1] += weight * weight
        self.norms = [math.sqrt(square) for square in squares]
        self.bigrams = max(0, words - 1)

    def similarity(self, reference: _Vector) -> float:
        """Compute the clipped cosine, averaged over the orders, times the length penalty."""
        dots = [0.0] * MAX_ORDER
        for ngram in self.weights.keys() & reference.weights.keys():
            weight = reference.weights[ngram]
            dots[len(ngram) - 1] += min(self.weights[ngram], weight) * weight
        cosines = (
            dot / (own * other) for dot, own, other in zip(dots, self.norms, reference.norms, strict=True) if dot
        )
        gap = self.bigrams - reference.bigrams
        return sum(cosines) / MAX_ORDER * math.exp(-(gap**2) / (2 * SIGMA**2))


def _ngrams(words: Words) -> Iterable[tuple[Hashable, ...]]:
    return (
        tuple(words[start : start + order])
        for order in range(1, MAX_ORDER + 1)
        for start in range(len(words) - order + 1)
    )
