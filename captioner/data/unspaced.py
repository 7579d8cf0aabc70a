"""Detect captions in scripts without spaces between words, which the tokenizer would take for one word each."""

from __future__ import annotations

import re
from collections.abc import Iterable

from captioner.text.pieces import UNSPACED
from captioner.utils.console import print_status


def _letters(usual: int) -> str:
    """The scripts whose words usually have so many letters, as the inside of a character class."""
    return "".join(f"{chr(first)}-{chr(last)}" for first, last, length in UNSPACED if length == usual)


_RUN = re.compile(rf"(?P<han>[{_letters(2)}]+)|(?P<thai>[{_letters(5)}]+)")

_LONGEST_MEAN = {"han": 4.0, "thai": 9.0}
"""Average length of words in segmented text: about 2 letters in Chinese and Japanese, 4 to 6 in Thai, Lao, Khmer,
Burmese and Tibetan."""

_LEAST_SHARE = 0.1
"""Share of captions with such text."""


def tell_unspaced(captions: Iterable[str], source: object, cure: str = "") -> None:
    """Warn on standard error about text without spaces between words.

    Args:
        captions: The texts.
        source: Their source, for the message.
        cure: What to do other than to separate the words with spaces.
    """
    letters = dict.fromkeys(_LONGEST_MEAN, 0)
    runs = dict.fromkeys(_LONGEST_MEAN, 0)
    found = total = 0
    for caption in captions:
        total += 1
        if caption.isascii():
            continue
        before = sum(runs.values())
        for run in _RUN.finditer(caption):
            script = run.lastgroup
            assert script is not None
            letters[script] += len(run[0])
            runs[script] += 1
        found += sum(runs.values()) > before
    together = [script for script, mean in _LONGEST_MEAN.items() if letters[script] > mean * runs[script]]
    if together and found > _LEAST_SHARE * total:
        print_status(
            f"captioner: {str(source)!r}: has captions without spaces between words (Chinese, Japanese, Thai, …), each "
            f"of which counts as one word; {cure}separate the words with spaces first (jieba, MeCab, PyThaiNLP)"
        )
