"""XMP in PNG: an iTXt chunk (ISO 16684-3)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from captioner.errors import CaptionerError
from captioner.sidecars.splices import Content, Splice
from captioner.sidecars.xmp import LARGEST

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEYWORD = b"XML:com.adobe.xmp\0"


def find(content: Content) -> bytes | None:
    """Read the XMP packet of an image; None if there is none."""
    for kind, start, end in _chunks(content):
        if _is_xmp(content, kind, start):
            return _packet(bytes(content[start + 8 + len(_KEYWORD) : end - 4]))
    return None


def put(content: Content, packet: bytes | None) -> list[Splice]:
    """Build the splices that replace an image's packet; None removes it.

    Raises:
        CaptionerError: The picture is damaged.
    """
    new = b""
    if packet is not None:
        body = b"iTXt" + _KEYWORD + b"\0\0\0\0" + packet  # uncompressed, no language, no translated keyword
        new = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    after_header = None
    for kind, start, end in _chunks(content):
        if kind == b"IHDR":
            after_header = end
        if _is_xmp(content, kind, start):
            return [Splice(start, end, new)]
    if after_header is None:
        raise CaptionerError("is a damaged PNG: it has no header")
    return [Splice(after_header, after_header, new)]


def _chunks(content: Content) -> Iterator[tuple[bytes, int, int]]:
    """The type of each chunk, its start and end."""
    start = len(SIGNATURE)
    while start < len(content):
        if start + 12 > len(content):
            raise CaptionerError("is a damaged PNG: it ends within a chunk")
        (length,) = struct.unpack(">I", content[start : start + 4])
        kind, end = bytes(content[start + 4 : start + 8]), start + 12 + length
        if end > len(content):
            raise CaptionerError("is a damaged PNG: it ends within a chunk")
        yield kind, start, end
        if kind == b"IEND":
            return
        start = end
    raise CaptionerError("is a damaged PNG: it has no end")


def _is_xmp(content: Content, kind: bytes, start: int) -> bool:
    return kind == b"iTXt" and content[start + 8 : start + 8 + len(_KEYWORD)] == _KEYWORD


def _packet(body: bytes) -> bytes:
    try:
        is_compressed = body[0] == 1
        _, _, text = body[2:].split(b"\0", 2)
        if not is_compressed:
            return text
        stream = zlib.decompressobj()
        packet = stream.decompress(text, LARGEST + 1)
        if not stream.eof:
            raise ValueError("it is cut short or too large")
        return packet
    except (IndexError, ValueError, zlib.error):
        raise CaptionerError("its XMP is damaged") from None
