"""Which records a model can learn from: those whose captions have words and whose pictures can be read."""

from __future__ import annotations

import math
import os
import re
import stat
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from PIL import Image

from captioner.data.images import open_image
from captioner.data.paths import RealPaths
from captioner.data.records import Record
from captioner.data.skip_report import Skipped
from captioner.errors import CaptionerError
from captioner.text.vocabulary import split_words
from captioner.utils.spelling import Listings

MOST_WORDS = 1_000
"""Words of the longest caption that is learned from: attention over 10,000 would fill gigabytes for one sentence."""

_PLAIN_WORD = re.compile(r"(?<![\w&-])[A-Za-z0-9]+(?![\w-])")
"""What is a word in whatever text, as ``nbsp`` is not: where there is one, no tokens are needed to know that there are
words."""

_LAST_BYTES = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
"""What whole files of a format end on: the marker of the end (ISO/IEC 10918-1), the last chunk with its checksum."""

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"

_HEAD_BYTES = 1 << 12
"""Of a file that tell its size, unless a thumbnail stands before it."""

_THREADS = 8
"""A file on another machine is waited for, not worked on."""

_PART = 500
"""Pictures that one thread looks at before it is given others."""


def with_words(records: Sequence[Record], skipped: Skipped) -> list[Record]:
    """Records with the captions that have words, and not too many.

    Args:
        records: What a caption file holds.
        skipped: Takes captions without words or with more than `MOST_WORDS`, and images left without any.

    Raises:
        CaptionerError: There is such a caption, and none may be skipped.
    """
    worded = []
    for record in records:
        texts = []
        for text in record.captions:
            sure = len(text) <= MOST_WORDS and _PLAIN_WORD.search(text)
            count = 1 if sure else len(split_words(text))
            if not count:
                message = f"caption {text[:40]!r} of {record.image} has no words; remove it or write one"
                skipped.caption("without words", record.image.name, CaptionerError(message))
            elif count > MOST_WORDS:
                message = f"a caption of {record.image} has {count:,} words, more than {MOST_WORDS:,}; shorten it"
                skipped.caption(f"of more than {MOST_WORDS:,} words", record.image.name, CaptionerError(message))
            else:
                texts.append(text)
        if texts:
            worded.append(record if tuple(texts) == record.captions else replace(record, captions=tuple(texts)))
        else:
            message = f"{record.image} has no caption that can be learned from; write one or take it out"
            skipped.image("without a usable caption", record.image.name, CaptionerError(message))
    return worded


def not_before(records: Sequence[Record], before: Sequence[Record], skipped: Skipped) -> list[Record]:
    """Records of images that no caption file before has: none is learned from and validated with.

    Args:
        records: Those of one file.
        before: Those of the files before it.
        skipped: Takes the others.

    Raises:
        CaptionerError: There is such an image, and none may be skipped.
    """
    if not before:
        return list(records)
    real = RealPaths(Listings())
    taken = {real.of(record.image) for record in before}
    fresh = []
    for record in records:
        if real.of(record.image) in taken:
            message = f"{record.image} is in a caption file before {skipped.source} as well; take it out of one"
            skipped.image("listed in another file", record.image.name, CaptionerError(message))
        else:
            fresh.append(record)
    return fresh


def with_pictures(
    records: Sequence[Record], skipped: Skipped, report: Callable[[int], None] | None = None
) -> list[Record]:
    """Records whose pictures can be read, as far as a look at both ends of the file tells.

    Files that are empty, cut, too large or no pictures are found. What is damaged in the middle of a whole file is
    not: that takes decoding, and comes to light when the picture is first used.

    Args:
        records: Records with pictures.
        skipped: Takes the others.
        report: Is told how many have been looked at.

    Raises:
        CaptionerError: There is another, and none may be skipped.
    """
    parts = [records[first : first + _PART] for first in range(0, len(records), _PART)]
    readable = []
    with ThreadPoolExecutor(_THREADS) as threads:
        done = 0
        for part, faults in zip(parts, threads.map(_faults, parts), strict=True):
            for record, fault in zip(part, faults, strict=True):
                if fault is None:
                    readable.append(record)
                else:
                    skipped.image("unreadable", record.image.name, fault)
            done += len(part)
            if report:
                report(done)
    return readable


def _faults(records: Sequence[Record]) -> list[CaptionerError | None]:
    return [_fault(record.image) for record in records]


def _fault(picture: Path) -> CaptionerError | None:
    """What is wrong with a picture; one that does not look whole is decoded, which decides."""
    try:
        if not _looks_whole(picture):
            open_image(picture)
    except CaptionerError as error:
        return error
    return None


def _looks_whole(picture: Path) -> bool:
    """Whether a file has the head and the last bytes of a JPEG or PNG: some 0.02 ms, where decoding takes many."""
    try:
        file = os.open(picture, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would be waited for
    except (OSError, ValueError):
        return False
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            return False
        start = os.pread(file, _HEAD_BYTES, 0)
        size = _jpeg_size(start) or _png_size(start)
        end = _LAST_BYTES["JPEG" if start.startswith(_JPEG) else "PNG"]
        limit = 2 * (Image.MAX_IMAGE_PIXELS or math.inf)
        whole = os.pread(file, len(end), max(0, status.st_size - len(end))) == end
        return whole and size is not None and 0 < size[0] * size[1] <= limit
    except OSError:
        return False
    finally:
        os.close(file)


def _jpeg_size(start: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG of 8 bits in 1, 3 or 4 channels, where its head is within the first bytes."""
    if not start.startswith(_JPEG):
        return None
    place = 2
    while place + 10 <= len(start) and start[place] == 0xFF:
        marker = start[place + 1]
        if 0xC0 <= marker <= 0xC2:  # baseline, extended and progressive frames
            bits, height, width, channels = struct.unpack_from(">BHHB", start, place + 4)
            return (height, width) if bits == 8 and channels in (1, 3, 4) else None
        place += 2 + int.from_bytes(start[place + 2 : place + 4], "big")
    return None


def _png_size(start: bytes) -> tuple[int, int] | None:
    if not start.startswith(_PNG) or start[12:16] != b"IHDR" or len(start) < 24:
        return None
    height, width = struct.unpack_from(">II", start, 16)
    return height, width
