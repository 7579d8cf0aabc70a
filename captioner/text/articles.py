"""English articles: "a" before a consonant's sound, "an" before a vowel's."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

_VOWELS = frozenset("aeiou")
_CONSONANT_SOUNDS = ("eu", "one", "once", "uni", "use", "usu", "ukulele", "uten", "ufo", "u-")
"""Prefixes with a vowel letter but a consonant sound, as in "a unicycle"."""
_VOWEL_SOUNDS = ("unin", "unim", "unid", "hour", "honest", "honor", "heir", "x-ray", "xray", "mp3", "suv", "rv", "atm")
"""Prefixes with a vowel sound in spite of their letter, or exceptions from `_CONSONANT_SOUNDS`."""


def article_of(word: str) -> str:
    """The indefinite article before a word in lower case: "a" or "an"."""
    if word.startswith(_VOWEL_SOUNDS):
        return "an"
    return "an" if word[:1] in _VOWELS and not word.startswith(_CONSONANT_SOUNDS) else "a"


def fit_articles(words: Sequence[str]) -> list[str]:
    """Correct the indefinite articles in a list of words."""
    fitted = list(words)
    for index, (word, following) in enumerate(itertools.pairwise(words)):
        if word in ("a", "an"):
            fitted[index] = article_of(following)
    return fitted


def wrong_articles(words: Sequence[str]) -> int:
    """Count the wrong indefinite articles."""
    return sum(word != fitted for word, fitted in zip(words, fit_articles(words), strict=True))
