"""Image ids that mean the same image though they are written otherwise: 1, 1.0, "1", "000000000001"."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable

_NUMBER = re.compile(r"-?[0-9]{1,18}(\.0+)?")


def match_ids(given: Iterable[Hashable], known: Iterable[Hashable]) -> dict[Hashable, Hashable]:
    """The known id that each given id means.

    An id is itself, else the one known id of its number, whatever type that has.

    Args:
        given: Ids to look up.
        known: Ids to find.

    Returns:
        Given id to known id; without those that mean none, or more than one.
    """
    exact = set(known)
    numbered = [(number, each) for each in exact if (number := _number(each)) is not None]
    counts = Counter(number for number, _ in numbered)
    by_number = {number: each for number, each in numbered if counts[number] == 1}
    found = {}
    for each in given:
        number = _number(each)
        if each in exact:
            found[each] = each
        elif number is not None and number in by_number:
            found[each] = by_number[number]
    return found


def _number(value: Hashable) -> int | None:
    """The whole number that an id is, or that its text writes."""
    if isinstance(value, str):
        return int(value.strip().partition(".")[0]) if _NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) else None
