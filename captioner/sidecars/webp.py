"""XMP in WebP: a chunk of the extended format (RFC 9649)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from captioner.errors import CaptionerError
from captioner.sidecars.splices import Content, Splice

_HEADER = 12
_HAS_XMP, _HAS_ALPHA = 0x04, 0x10
_DAMAGED = "is a damaged WebP"


def find(content: Content) -> bytes | None:
    """Read the XMP packet of an image; None if there is none."""
    for kind, start, end in _chunks(content):
        if kind == b"XMP ":
            return bytes(content[start + 8 : end])
    return None


def put(content: Content, packet: bytes | None) -> list[Splice]:
    """Build the splices that replace an image's packet; None removes it.

    Raises:
        CaptionerError: The picture is damaged.
    """
    new = b""
    if packet is not None:
        new = b"XMP " + struct.pack("<I", len(packet)) + packet + b"\0" * (len(packet) % 2)
    chunks = list(_chunks(content))
    end = _riff_end(content)
    old = next(((start, stop + (stop - start) % 2) for kind, start, stop in chunks if kind == b"XMP "), (end, end))
    splices = [Splice(old[0], min(old[1], end), new)]
    kind, start, _ = chunks[0]
    if kind == b"VP8X":
        flags = content[start + 8]
        wanted = flags | _HAS_XMP if packet is not None else flags & ~_HAS_XMP
        splices.append(Splice(start + 8, start + 9, bytes([wanted])))
    elif packet is not None:
        splices.append(Splice(start, start, _extended(content, kind, start)))
    change = sum(len(each.new) - (each.end - each.start) for each in splices)
    return [Splice(4, 8, struct.pack("<I", end - 8 + change)), *splices]


def _riff_end(content: Content) -> int:
    (size,) = struct.unpack("<I", content[4:8])
    end: int = size + 8
    if end > len(content):
        raise CaptionerError(f"{_DAMAGED}: it is cut short")
    return end


def _chunks(content: Content) -> Iterator[tuple[bytes, int, int]]:
    """The type of each chunk, its start and end, without padding."""
    start, last = _HEADER, _riff_end(content)
    if start + 8 > last:
        raise CaptionerError(f"{_DAMAGED}: it has no picture")
    while start + 8 <= last:
        (length,) = struct.unpack("<I", content[start + 4 : start + 8])
        end = start + 8 + length
        if end > last:
            raise CaptionerError(f"{_DAMAGED}: it ends within a chunk")
        yield bytes(content[start : start + 4]), start, end
        start = end + length % 2


def _extended(content: Content, kind: bytes, start: int) -> bytes:
    """Build the first chunk of the extended format for a simple file."""
    body = bytes(content[start + 8 : start + 18])
    if kind == b"VP8L" and body[:1] == b"\x2f":
        (bits,) = struct.unpack("<I", body[1:5])
        width, height, has_alpha = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    elif kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = (size & 0x3FFF for size in struct.unpack("<HH", body[6:10]))
        has_alpha = False
    else:
        raise CaptionerError(f"{_DAMAGED}: it does not begin with a picture")
    flags = _HAS_XMP | (_HAS_ALPHA if has_alpha else 0)
    sizes = b"".join(int(side - 1).to_bytes(3, "little") for side in (width, height))
    return b"VP8X" + struct.pack("<IB3x", 10, flags) + sizes
