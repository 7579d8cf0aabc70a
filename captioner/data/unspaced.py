"""Captions in scripts without blanks between words, which a tokenizer that goes by blanks takes for one word each."""

from __future__ import annotations

import re
from collections.abc import Iterable

from captioner.utils.console import print_status

_HAN = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_THAI = r"\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"
_RUN = re.compile(rf"(?P<han>[{_HAN}]+)|(?P<thai>[{_THAI}]+)")

_LONGEST_MEAN = {"han": 4.0, "thai": 9.0}
"""Letters of a word on average, in text whose words are parted: Chinese and Japanese have about 2, Thai, Lao, Khmer,
Burmese and Tibetan 4 to 6."""

_LEAST_SHARE = 0.1
"""Captions with such text, of all."""


def tell_unspaced(captions: Iterable[str], source: object) -> None:
    """Say on standard error that words are not parted, where they are not.

    Args:
        captions: The texts.
        source: Where they come from.
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
            f"captioner: {str(source)!r}: has captions without blanks between words (Chinese, Japanese, Thai, …), each "
            "of which counts as one word; part the words with blanks first (jieba, MeCab, PyThaiNLP)"
        )
