"""Suggestions for misspelled names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHOWN = 4
_ALIKE = 0.6
"""Minimum similarity of names, in [0, 1], by difflib."""
_AS_GOOD = 0.1
"""Maximum difference in similarity from the best match."""


def nearest(name: str, names: Iterable[str], count: int = _SHOWN) -> list[str]:
    """Find the names nearest to a misspelled one.

    Args:
        name: The given name. Its case, and whether ``_`` or ``-`` divides its words, do not matter.
        names: The right ones.
        count: How many to return at most.

    Returns:
        The most similar names, the best first; those that begin or end with the given one count as similar, too.
    """
    plain = {each: _plain(each) for each in names}
    given = _plain(name)
    if not given:
        return []

    def similarity(other: str) -> float:
        ratio = difflib.SequenceMatcher(None, given, other).ratio()
        return max(ratio, _ALIKE) if other.startswith(given) or other.endswith(given) else ratio

    scored = {each: similarity(other) for each, other in plain.items()}
    least = max(_ALIKE, max(scored.values(), default=0) - _AS_GOOD)
    alike = [each for each, score in scored.items() if score >= least]
    return sorted(alike, key=lambda each: (-scored[each], len(each), each))[:count]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Suggest the right spelling.

    Args:
        name: The given name.
        names: The right ones.

    Returns:
        The end of a message, such as ``; did you mean --beam-size?``; empty if nothing is similar.
    """
    found = nearest(name, names)
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").strip("-")
