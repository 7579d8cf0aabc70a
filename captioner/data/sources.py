"""Caption files of five formats, read into records whose pictures exist and whose captions can be used.

Nothing here loads torch: Flickr8k is read in a third of a second, the 123,287 images of COCO in some seconds, half of
which the JSON parser takes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from captioner.data.formats import parse
from captioner.data.places import place, refuse_links_out
from captioner.data.records import SPLITS, Record
from captioner.errors import CaptionerError


def read_records(
    captions: Path,
    images: Path | None = None,
    splits: Path | None = None,
    split: str | None = None,
    anywhere: bool = False,
) -> list[Record]:
    """Reads a caption file; its format is found by its content (see ``captioner.data.formats``).

    A picture's split is what the file says of it. COCO annotations, and CSV and JSON lines that leave it out, do not
    say: then it is ``split``, else what the file's name says ("captions_val2017.json"), else "train". In a Flickr8k
    token file, pictures that no split file lists are not used; with ``split`` and without ``splits``, all are.

    Line breaks within a caption become spaces and outer blanks go; else captions stay as they were written.

    Args:
        captions: The file with the captions.
        images: The folder that image paths are relative to; by default that of ``captions``. With it, no absolute
            path is taken.
        splits: The folder of Flickr8k's three split files; by default that of ``captions``.
        split: The split of pictures for which the file gives none.
        anywhere: Whether the file may name pictures outside that folder, by ``..``, an absolute path or a link.

    Returns:
        One record an image, in the file's order.

    Raises:
        CaptionerError: The file is missing, damaged or of no known format; an image is missing, listed twice, without
            captions, outside its folder or in an unknown split; a caption is empty.
    """
    if split is not None and split not in SPLITS:
        raise CaptionerError(f"split {split!r} is unknown: choose {', '.join(SPLITS)}")
    records = parse(captions, splits, split)
    if not records:
        raise CaptionerError(f"{captions} names no image: give a file with captions")
    checked = [_checked(record, captions, images, anywhere) for record in records]
    _refuse_twins(checked, captions)
    _refuse_missing(checked, captions)
    if not anywhere:
        refuse_links_out((record.image for record in checked), captions, images)
    return checked


def _checked(record: Record, captions: Path, images: Path | None, anywhere: bool) -> Record:
    name = record.image.as_posix()
    if len(name.splitlines()) > 1:
        raise CaptionerError(f"image path {name!r} in {captions} has a line break: write it without")
    if record.split not in SPLITS:
        raise CaptionerError(f"split {record.split!r} of {name} in {captions} is unknown: write {', '.join(SPLITS)}")
    if not record.captions:
        raise CaptionerError(f"{name} in {captions} has no captions: add one or take the image out")
    texts = tuple(" ".join(text.splitlines()).strip() for text in record.captions)
    for number, text in enumerate(texts, start=1):
        if not text:
            raise CaptionerError(f"caption {number} of {name} in {captions} is empty: write one or take it out")
        if not _encodable(text):
            raise CaptionerError(f"caption {number} of {name} in {captions} is not Unicode text: write it anew")
    return Record(place(record.image, captions, images, anywhere), texts, record.split, record.image_id)


def _encodable(text: str) -> bool:
    # JSON can spell half of a surrogate pair, which no file can be written with.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_twins(records: Sequence[Record], captions: Path) -> None:
    by_image: dict[Path, Record] = {}
    by_id: dict[int | str, Record] = {}
    for record in records:
        twin = by_image.setdefault(record.image, record)
        if twin.split != record.split:
            raise CaptionerError(
                f"{record.image} is in the splits {twin.split} and {record.split} of {captions}: leave it in one"
            )
        if twin is not record:
            raise CaptionerError(f"{record.image} is listed twice in {captions}: put its captions into one entry")
        twin = by_id.setdefault(record.image_id, record)
        if twin is not record:
            raise CaptionerError(
                f"image id {record.image_id!r} is given twice in {captions}, to {twin.image.name} and "
                f"{record.image.name}: give each image an id of its own"
            )


def _refuse_missing(records: Sequence[Record], captions: Path) -> None:
    listings: dict[str, frozenset[str]] = {}
    missing = []
    for record in records:
        folder, name = os.path.split(record.image)
        if folder not in listings:
            listings[folder] = _names(folder)
        if name not in listings[folder]:
            missing.append(record.image)
    if missing:
        raise CaptionerError(
            f"image {missing[0]} of {captions} is missing ({len(missing)} of {len(records)} images are): "
            "put it there or give the right image folder"
        )


def _names(folder: str) -> frozenset[str]:
    """The files of a folder: listing it once is far quicker than 100,000 times asking for one file."""
    try:
        with os.scandir(folder or os.curdir) as entries:
            return frozenset(entry.name for entry in entries if not entry.is_dir())
    except (OSError, ValueError):
        return frozenset()
