"""Runs of words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

MAX_ORDER = 4


def count_ngrams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    """How often each run of ``order`` words occurs."""
    return Counter(tuple(words[start : start + order]) for start in range(len(words) - order + 1))
