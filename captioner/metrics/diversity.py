"""Diversity and completeness of captions, which reference-based scores do not measure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from captioner.text.function_words import FUNCTION_WORDS


def describe(
    captions: Sequence[Sequence[str]], training: Collection[str] | None = None, english: bool = True
) -> dict[str, float]:
    """Measure the diversity and the completeness of captions.

    Args:
        captions: The tokens of each caption.
        training: The training captions, tokens joined by spaces; None omits ``novel``.
        english: Whether they are English words without punctuation; others have no ``cut off``.

    Returns:
        By name: ``vocabulary``, the number of distinct words; ``distinct-1`` and ``distinct-2``, the ratio of distinct
        unigrams and bigrams (Li et al., 2016); ``length``, the mean number of words; ``unique``, the share of distinct
        captions; ``novel``, the share that is not in the training captions; ``cut off``, the share that is empty or
        ends with a function word; ``repetitive``, the share that repeats a sequence of two or more words.
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
    if english:
        found["cut off"] = sum(not tokens or tokens[-1] in FUNCTION_WORDS for tokens in captions) / count
    # A longer sequence that occurs twice contains a bigram that does.
    found["repetitive"] = sum(any(n > 1 for n in Counter(own).values()) for own in runs[2]) / count
    return found


def _runs(tokens: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return list(zip(*(tokens[start:] for start in range(size)), strict=False))
