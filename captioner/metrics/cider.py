"""CIDEr-D (Vedantam et al., 2015), which the COCO evaluation calls CIDEr."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from captioner.metrics.ngrams import MAX_ORDER, count_ngrams

SIGMA = 6.0
"""Width of the Gaussian by which a difference in length is punished, in bigrams."""

SCALE = 10.0

Ngram = tuple[str, ...]


class _Vector:
    """A caption's tf-idf weights, its norm for each order, and its length."""

    def __init__(self, words: Sequence[str], frequency: Counter[Ngram], log_images: float) -> None:
        self.weights = [
            {
                ngram: count * (log_images - math.log(max(1, frequency[ngram])))
                for ngram, count in count_ngrams(words, order).items()
            }
            for order in range(1, MAX_ORDER + 1)
        ]
        self.norms = [math.sqrt(sum(weight**2 for weight in weights.values())) for weights in self.weights]
        self.length = max(0, len(words) - 1)  # in bigrams, as the official code has it

    def similarity(self, reference: _Vector) -> float:
        """Mean over the orders of the cosine with clipped weights, times the punishment of the length."""
        total = 0.0
        for own, other, norm, other_norm in zip(
            self.weights, reference.weights, self.norms, reference.norms, strict=True
        ):
            if norm > 0 and other_norm > 0:
                dot = sum(min(weight, other[ngram]) * other[ngram] for ngram, weight in own.items() if ngram in other)
                total += dot / (norm * other_norm)
        return total / MAX_ORDER * math.exp(-((self.length - reference.length) ** 2) / (2 * SIGMA**2))


def corpus_cider(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> float:
    """CIDEr-D of a corpus: ten times the mean similarity of captions to their references, in [0, 10].

    An n-gram g weighs count(g) · log(images / images with g in a reference), n from 1 to 4. A caption is compared by
    the cosine of such vectors, its own weights clipped at the reference's, and exp(-Δ²/2σ²) for a difference of Δ in
    length.

    Args:
        hypotheses: The tokens of each image's caption.
        references: The tokens of each image's references; the document frequencies come from these.
    """
    frequency: Counter[Ngram] = Counter()
    for group in references:
        orders = range(1, MAX_ORDER + 1)
        frequency.update({ngram for words in group for order in orders for ngram in count_ngrams(words, order)})
    log_images = math.log(len(references))
    total = 0.0
    for hypothesis, group in zip(hypotheses, references, strict=True):
        vector = _Vector(hypothesis, frequency, log_images)
        total += sum(vector.similarity(_Vector(words, frequency, log_images)) for words in group) / len(group)
    return SCALE * total / len(references)
