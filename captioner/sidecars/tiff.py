"""XMP in TIFF: tag 700 of the first directory (TIFF 6.0, BigTIFF, ISO 16684-3).

New data is appended to the file; existing data does not move, so that no other offset changes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from captioner.errors import CaptionerError
from captioner.sidecars.splices import Content, Splice

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_XMP = 700
_BYTE = 1
_LARGEST = 2**32 - 1


@dataclass(frozen=True)
class _Layout:
    """Number formats of a file: 32 bits in TIFF, 64 in BigTIFF."""

    order: str
    is_big: bool

    @classmethod
    def of(cls, content: Content) -> _Layout:
        return cls("<" if content[:2] == b"II" else ">", 43 in (content[2], content[3]))

    @property
    def pointer_place(self) -> int:
        return 8 if self.is_big else 4

    @property
    def pointer(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.is_big else "I"))

    @property
    def count(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.is_big else "H"))

    @property
    def entry(self) -> struct.Struct:
        return struct.Struct(self.order + ("HHQQ" if self.is_big else "HHII"))


@dataclass(frozen=True)
class _Directory:
    """The first directory: start, end, entries (tag, type, count, value) and offset of the next one."""

    entries: list[bytes]
    next: bytes


def find(content: Content) -> bytes | None:
    """Read the XMP packet of an image; None if there is none."""
    layout = _Layout.of(content)
    for entry in _directory(content, layout).entries:
        tag, _, count, value = layout.entry.unpack(entry)
        if tag == _XMP and count > layout.pointer.size:
            if value + count > len(content):
                raise CaptionerError("its XMP is damaged: it lies behind the end")
            return bytes(content[value : value + count])
    return None


def put(content: Content, packet: bytes | None) -> list[Splice]:
    """Build the splices that replace an image's packet; None removes it.

    Raises:
        CaptionerError: The picture is damaged, or would exceed what TIFF can hold.
    """
    layout = _Layout.of(content)
    directory = _directory(content, layout)
    others = [entry for entry in directory.entries if layout.entry.unpack(entry)[0] != _XMP]
    end = len(content)
    tail = b"\0" * (-end % 8)
    entries = others
    if packet is not None:
        entry = layout.entry.pack(_XMP, _BYTE, len(packet), end + len(tail))
        entries = sorted([*others, entry], key=lambda each: int(layout.entry.unpack(each)[0]))
        tail += packet + b"\0" * (-len(packet) % 8)
    place = end + len(tail)
    tail += layout.count.pack(len(entries)) + b"".join(entries) + directory.next
    if not layout.is_big and end + len(tail) > _LARGEST:
        raise CaptionerError("is as large as TIFF can be; nothing can be added to it")
    start = layout.pointer_place
    return [Splice(start, start + layout.pointer.size, layout.pointer.pack(place)), Splice(end, end, tail)]


def _directory(content: Content, layout: _Layout) -> _Directory:
    try:
        (start,) = layout.pointer.unpack_from(content, layout.pointer_place)
        (count,) = layout.count.unpack_from(content, start)
        place = start + layout.count.size
        end = place + count * layout.entry.size
        if end + layout.pointer.size > len(content):
            raise struct.error
    except (struct.error, OverflowError):
        raise CaptionerError("is a damaged TIFF: its first directory lies behind its end") from None
    size = layout.entry.size
    entries = [bytes(content[at : at + size]) for at in range(place, end, size)]
    return _Directory(entries, bytes(content[end : end + layout.pointer.size]))
