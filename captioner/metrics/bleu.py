"""BLEU (Papineni et al., 2002), over a corpus, with the constants of the COCO evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from captioner.metrics.ngrams import MAX_ORDER, count_ngrams

_TINY = 1e-15
_SMALL = 1e-9
"""What COCO's evaluation adds to numerators and denominators; they matter only where a count is 0."""


def corpus_bleu(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> list[float]:
    """BLEU-1 to BLEU-4 of a corpus.

    BLEU-N is the geometric mean of the precisions of 1- to N-grams, each n-gram counted at most as often as in the
    reference that has it most, times the brevity penalty exp(1 - r/c) where the corpus is shorter (c words) than its
    references (r words: of each image the reference whose length is closest, of two the shorter).

    Args:
        hypotheses: The tokens of each image's caption.
        references: The tokens of each image's references.

    Returns:
        Four values in [0, 1].
    """
    correct, guessed = [0] * MAX_ORDER, [0] * MAX_ORDER
    length = closest = 0
    for hypothesis, group in zip(hypotheses, references, strict=True):
        length += len(hypothesis)
        closest += min((len(reference) for reference in group), key=lambda n: (abs(n - len(hypothesis)), n))
        for order in range(1, MAX_ORDER + 1):
            counts = count_ngrams(hypothesis, order)
            guessed[order - 1] += counts.total()
            most = count_ngrams((), order)
            for reference in group:
                most |= count_ngrams(reference, order)
            correct[order - 1] += (counts & most).total()
    ratio = (length + _TINY) / (closest + _SMALL)
    penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for order in range(1, MAX_ORDER + 1):
        product *= (correct[order - 1] + _TINY) / (guessed[order - 1] + _SMALL)
        scores.append(product ** (1 / order) * penalty)
    return scores
