"""Replacement of byte ranges in a file, for metadata edits."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable
from typing import BinaryIO, NamedTuple, TypeAlias

_CHUNK = 2**20

Content: TypeAlias = bytes | mmap.mmap


class Splice(NamedTuple):
    """A byte range of a file with its replacement.

    Attributes:
        start: First byte of the range.
        end: Index after its last byte.
        new: The replacement.
    """

    start: int
    end: int
    new: bytes


def reverse(content: Content, splices: Iterable[Splice]) -> list[Splice]:
    """The splices that undo `splice`."""
    back, shift = [], 0
    for start, end, new in sorted(splices):
        back.append(Splice(start + shift, start + shift + len(new), bytes(content[start:end])))
        shift += len(new) - (end - start)
    return back


def splice(content: Content, splices: Iterable[Splice], file: BinaryIO) -> None:
    """Write content with non-overlapping ranges replaced."""
    place = 0
    for start, end, new in sorted(splices):
        _copy(content, place, start, file.write)
        file.write(new)
        place = end
    _copy(content, place, len(content), file.write)


def _copy(content: Content, start: int, end: int, put: Callable[[bytes], object]) -> None:
    for place in range(start, end, _CHUNK):
        put(content[place : min(place + _CHUNK, end)])
