"""Which records a model can learn from: those whose captions have words and whose pictures can be read."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from PIL import Image

from captioner.data.images import open_image
from captioner.data.records import Record
from captioner.data.skip_report import Skipped
from captioner.errors import CaptionerError
from captioner.text.vocabulary import split_words

MOST_WORDS = 1_000
"""Words of the longest caption that is learned from: attention over 10,000 would fill gigabytes for one sentence."""

_PLAIN_WORD = re.compile(r"(?<![\w&-])[A-Za-z0-9]+(?![\w-])")
"""What is a word in whatever text, as ``nbsp`` is not: where there is one, no tokens are needed to know that there are
words."""

_LAST_BYTES = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
"""What whole files of a format end on: the marker of the end (ISO/IEC 10918-1), the last chunk with its checksum."""

_THREADS = 8
"""A file on another machine is waited for, not worked on."""


def with_words(records: Sequence[Record], skipped: Skipped) -> list[Record]:
    """Records with the captions that have words, and not too many.

    Args:
        records: What a caption file holds.
        skipped: Takes captions without words or with more than `MOST_WORDS`, and images left without any.

    Raises:
        CaptionerError: There is such a caption, and none may be passed over.
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
            worded.append(replace(record, captions=tuple(texts)))
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
        CaptionerError: There is such an image, and none may be passed over.
    """
    taken = {record.image.resolve() for record in before}
    fresh = []
    for record in records:
        if taken and record.image.resolve() in taken:
            message = f"{record.image} is in a caption file before {skipped.source} as well; take it out of one"
            skipped.image("listed in another file", record.image.name, CaptionerError(message))
        else:
            fresh.append(record)
    return fresh


def with_pictures(records: Sequence[Record], skipped: Skipped) -> list[Record]:
    """Records whose pictures can be read, as far as a look at both ends of the file tells.

    Files that are empty, cut, too large or no pictures are found. What is damaged in the middle of a whole file is
    not: that takes decoding, and comes to light when the picture is first used.

    Args:
        records: Records with pictures.
        skipped: Takes the others.

    Raises:
        CaptionerError: There is another, and none may be passed over.
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        faults = list(threads.map(_fault, (record.image for record in records)))
    readable = []
    for record, fault in zip(records, faults, strict=True):
        if fault is None:
            readable.append(record)
        else:
            skipped.image("unreadable", record.image.name, fault)
    return readable


def _fault(picture: Path) -> CaptionerError | None:
    """What is wrong with a picture; one that does not look whole is decoded, which decides."""
    try:
        if not _looks_whole(picture):
            open_image(picture)
    except CaptionerError as error:
        return error
    return None


def _looks_whole(picture: Path) -> bool:
    """Whether a file has the head and the last bytes of a JPEG or PNG: some 0.2 ms, where decoding takes many."""
    if not picture.is_file():  # a pipe would be waited for
        return False
    try:
        with picture.open("rb") as file, Image.open(file) as image:
            end = _LAST_BYTES[image.format or ""]
            file.seek(-len(end), os.SEEK_END)
            return file.read() == end
    except Exception:  # Pillow's plug-ins raise nearly anything; decoding tells what it is
        return False
