"""What scores do not see: how varied captions are, and whether they are sentences at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from captioner.text.function_words import FUNCTION_WORDS


def describe(captions: Sequence[Sequence[str]], training: Collection[str] | None = None) -> dict[str, float]:
    """Measures the variety and the wholeness of captions.

    Args:
        captions: The tokens of each caption.
        training: The training captions, each its tokens joined by spaces; None leaves ``novel`` out.

    Returns:
        By name: ``vocabulary``, the number of different words; ``distinct-1`` and ``distinct-2``, different words and
        pairs of words over all words and pairs (Li et al., 2016); ``length``, mean words a caption; ``unique``, the
        share of different captions; ``novel``, the share that is no training caption; ``cut off``, the share that ends
        on a function word or is empty; ``repetitive``, the share that says a run of two or more words twice.
    """
    count = max(1, len(captions))
    texts = [" ".join(tokens) for tokens in captions]
    runs = {size: [_runs(tokens, size) for tokens in captions] for size in (1, 2)}
    found: dict[str, float] = {"vocabulary": len({word for tokens in captions for word in tokens})}
    for size, each in runs.items():
        total = sum(map(len, each))
        found[f"distinct-{size}"] = len({run for own in each for run in own}) / max(1, total)
    found["length"] = sum(map(len, captions)) / count
    found["unique"] = len(set(texts)) / count
    if training is not None:
        found["novel"] = sum(text not in training for text in texts) / count
    found["cut off"] = sum(not tokens or tokens[-1] in FUNCTION_WORDS for tokens in captions) / count
    # A longer run that is said twice holds a pair that is.
    found["repetitive"] = sum(any(n > 1 for n in Counter(own).values()) for own in runs[2]) / count
    return found


def _runs(tokens: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return list(zip(*(tokens[start:] for start in range(size)), strict=False))
