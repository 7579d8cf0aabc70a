"""XMP in JPEG: an APP1 segment (ISO 16684-3), with an updated index of multi-picture files (CIPA DC-007)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from captioner.errors import CaptionerError
from captioner.sidecars.splices import Content, Splice

SIGNATURE = b"\xff\xd8\xff"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_EXIF = b"Exif\0\0"
_MULTI_PICTURE = b"MPF\0"
_APP0, _APP1, _APP2, _START_OF_SCAN, _END = 0xE0, 0xE1, 0xE2, 0xDA, 0xD9
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_LARGEST_LENGTH = 65535
_PICTURES_TAG = 0xB002


@dataclass(frozen=True)
class _Segment:
    marker: int
    start: int
    body: int
    end: int


def find(content: Content) -> bytes | None:
    """Read the XMP packet of an image; None if there is none."""
    segment = _xmp(list(_segments(content)), content)
    return None if segment is None else bytes(content[segment.body + len(_XMP) : segment.end])


def put(content: Content, packet: bytes | None) -> list[Splice]:
    """Build the splices that replace an image's packet; None removes it.

    Raises:
        CaptionerError: The packet is too large for a segment, or the picture is damaged.
    """
    segments = list(_segments(content))
    old = _xmp(segments, content)
    new = b"" if packet is None else _segment(packet)
    if old is not None:
        start, end = old.start, old.end
    else:
        start = end = _place(segments, content)
    change = len(new) - (end - start)
    index = next((each for each in segments if _starts(content, each, _APP2, _MULTI_PICTURE)), None)
    fixed = [] if index is None else _index_splices(content, index, change, start > index.start)
    return [Splice(start, end, new), *fixed]


def _segment(packet: bytes) -> bytes:
    if 2 + len(_XMP) + len(packet) > _LARGEST_LENGTH:
        packet = _without_padding(packet)
    length = 2 + len(_XMP) + len(packet)
    if length > _LARGEST_LENGTH:
        raise CaptionerError("its XMP has no room left for a caption (64 KiB at most in JPEG)")
    return struct.pack(">BBH", 0xFF, _APP1, length) + _XMP + packet


def _without_padding(packet: bytes) -> bytes:
    """Strip the padding of a packet."""
    end = packet.rfind(b"<?xpacket end")
    return packet if end < 0 else packet[:end].rstrip() + b"\n" + packet[end:]


def _segments(content: Content) -> Iterator[_Segment]:
    """The segments before the pixels."""
    place = 2
    while True:
        start = place
        if content[place : place + 1] != b"\xff":
            raise CaptionerError("is a damaged JPEG: a segment does not begin where it should")
        while content[place : place + 1] == b"\xff":  # any number of fill bytes
            place += 1
        if place + 3 > len(content):
            raise CaptionerError("is a damaged JPEG: it ends within its header")
        marker = content[place]
        if marker in (_START_OF_SCAN, _END):
            return
        if marker in _WITHOUT_LENGTH:
            place += 1
            continue
        (length,) = struct.unpack(">H", content[place + 1 : place + 3])
        end = place + 1 + length
        if length < 2 or end > len(content):
            raise CaptionerError("is a damaged JPEG: it ends within its header")
        yield _Segment(marker, start, place + 3, end)
        place = end


def _starts(content: Content, segment: _Segment, marker: int, name: bytes) -> bool:
    return segment.marker == marker and content[segment.body : segment.body + len(name)] == name


def _xmp(segments: list[_Segment], content: Content) -> _Segment | None:
    return next((each for each in segments if _starts(content, each, _APP1, _XMP)), None)


def _place(segments: list[_Segment], content: Content) -> int:
    """Position of a new segment: after JFIF and EXIF, and before the index of further images."""
    place = 2
    for each in segments:
        if each.marker != _APP0 and not _starts(content, each, _APP1, _EXIF):
            break
        place = each.end
    return place


def _index_splices(content: Content, index: _Segment, change: int, is_after: bool) -> list[Splice]:
    """Update the size of the first image, and the offsets of others if they moved.

    Offsets are relative to the index's header, so insertions before the index do not change them.
    """
    header = index.body + len(_MULTI_PICTURE)
    order = {b"II": "<", b"MM": ">"}.get(bytes(content[header : header + 2]))
    try:
        if order is None:
            raise ValueError
        (first,) = struct.unpack(f"{order}I", content[header + 4 : header + 8])
        (count,) = struct.unpack(f"{order}H", content[header + first : header + first + 2])
        for number in range(count):
            place = header + first + 2 + 12 * number
            tag, _, size, offset = struct.unpack(f"{order}HHII", content[place : place + 12])
            if tag == _PICTURES_TAG:
                return _entry_splices(content, order, header + offset, size // 16, change, is_after)
    except (ValueError, struct.error):
        raise CaptionerError("its index of several pictures (MPF) is damaged") from None
    return []


def _entry_splices(
    content: Content, order: str, place: int, pictures: int, change: int, is_after: bool
) -> list[Splice]:
    splices = []
    for number in range(pictures):
        start = place + 16 * number
        attributes, size, offset, rest = struct.unpack(f"{order}IIII", content[start : start + 16])
        if number == 0 and size:
            size += change
        if is_after and offset:
            offset += change
        new = struct.pack(f"{order}IIII", attributes, size, offset, rest)
        if new != content[start : start + 16]:
            splices.append(Splice(start, start + 16, new))
    return splices
