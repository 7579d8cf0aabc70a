"""CIDEr-D of one caption at a time, against a corpus whose frequencies are counted once: a reward to train on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

from captioner.metrics.cider import SCALE, SIGMA
from captioner.metrics.corpus import MAX_ORDER

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
