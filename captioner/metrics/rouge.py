"""ROUGE-L (Lin, 2004) as the COCO evaluation counts it."""

from __future__ import annotations

from collections.abc import Sequence

BETA = 1.2
"""How much more recall weighs than precision."""


def corpus_rouge_l(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> float:
    """The mean over images of F = (1 + β²) P R / (R + β² P), in [0, 1].

    P and R are the length of the longest common subsequence over that of the caption and of the reference; the best
    precision and the best recall over an image's references are taken apart from each other.

    Args:
        hypotheses: The tokens of each image's caption.
        references: The tokens of each image's references.
    """
    total = 0.0
    for hypothesis, group in zip(hypotheses, references, strict=True):
        common = [longest_common_subsequence(hypothesis, reference) for reference in group]
        precision = max(common) / max(1, len(hypothesis))
        recall = max(n / max(1, len(reference)) for n, reference in zip(common, group, strict=True))
        if precision > 0 and recall > 0:
            total += (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)
    return total / len(hypotheses)


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest sequence of words that both have in this order, not necessarily side by side."""
    row = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for column, other in enumerate(second, start=1):
            above = row[column]
            row[column] = diagonal + 1 if word == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]
