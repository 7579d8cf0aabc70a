"""CIDEr-D, over a corpus and as a reward."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from captioner.metrics.ngrams import MAX_ORDER, Corpus, Floats, Ngrams, Order, find

SIGMA = 6.0
"""Width of the Gaussian by which a difference in length is punished, in bigrams."""

SCALE = 10.0


def cider(corpus: Corpus) -> Floats:
    """CIDEr-D of each image: ten times the mean similarity of its hypothesis to its references.

    An n-gram g weighs count(g) · log(images / images with g in a reference), n from 1 to 4. A hypothesis is compared by
    the cosine of such vectors, its own weights clipped at the reference's, and exp(-Δ²/2σ²) for a difference of Δ in
    length. The score of a corpus is the mean over its images.

    Args:
        corpus: The corpus whose references also give the frequencies: among other images, an image scores otherwise,
            and an image alone scores 0.

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
    """The clipped cosine of each reference with its image's hypothesis, shape (references,)."""
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
    """Scores captions by their images' references, as `captioner.metrics.cider` would within the whole corpus.

    Args:
        references: The words of every image's references; words can be anything that compares, such as ids.
    """

    def __init__(self, references: Sequence[Sequence[Words]]) -> None:
        self.references = references
        frequency = Counter(
            ngram for group in references for ngram in {ngram for words in group for ngram in _ngrams(words)}
        )
        self._most = math.log(max(1, len(references)))
        # What one image has weighs as much as what none has, and is most of all there is: it need not be kept.
        self._rarity = {ngram: self._most - math.log(count) for ngram, count in frequency.items() if count > 1}

    def __call__(self, image: int, captions: Sequence[Words]) -> list[float]:
        """CIDEr-D of captions of an image, in [0, 10].

        Args:
            image: Its place among the references.
            captions: Words of each caption.
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
    """A caption's tf-idf weights, its norm for each order, and its length."""

    def __init__(self, weights: dict[tuple[Hashable, ...], float], words: int) -> None:
        self.weights = weights
        squares = [0.0] * MAX_ORDER
        for ngram, weight in weights.items():
            squares[len(ngram) - 1] += weight * weight
        self.norms = [math.sqrt(square) for square in squares]
        self.bigrams = max(0, words - 1)

    def similarity(self, reference: _Vector) -> float:
        """The mean over the orders of the clipped cosines, times the punishment of the length."""
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
