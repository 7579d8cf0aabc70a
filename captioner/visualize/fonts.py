"""Choose fonts for any script; Matplotlib's default has no Chinese, Japanese or Thai letters."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from captioner.utils.console import print_status

BOX = "□"
"""Replacement of a letter without a font."""

_PLACEHOLDERS = "Last Resort"
"""A font with a placeholder for every script."""


def choose_fonts(texts: Iterable[str]) -> tuple[list[str], frozenset[str]]:
    """Choose fonts that cover the letters of texts.

    Args:
        texts: The texts.

    Returns:
        The names of the fonts, the default first, and the letters that no installed font has, which are also reported
        on standard error.
    """
    from matplotlib import font_manager, rcParams

    usual = list(rcParams["font.family"])
    missing = frozenset("".join(texts)) - _letters(font_manager.findfont(font_manager.FontProperties(family=usual)))
    missing = frozenset(letter for letter in missing if letter.isprintable() and not letter.isspace())
    if not missing:
        return usual, missing
    for entry in font_manager.fontManager.ttflist:
        if not entry.name.startswith(_PLACEHOLDERS) and missing <= _letters(entry.fname):
            # Suppress warnings about a missing bold face.
            logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
            return [*usual, entry.name], frozenset()
    sample = "".join(sorted(missing)[:5])
    print_status(f"captioner: no font here has {sample}: they are drawn as {BOX}; install one, such as Noto Sans CJK")
    return usual, missing


def _letters(file: str) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(file).get_charmap()))
    except (OSError, RuntimeError):  # unreadable font
        return frozenset()
