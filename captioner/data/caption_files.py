"""Read caption files of many formats into records whose images exist and whose captions are usable.

Nothing here loads torch: Flickr8k takes a third of a second, the 123,287 images of COCO a few seconds, half of them in
the JSON parser.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from captioner.data.formats import Source
from captioner.data.paths import Finder, refuse_links_out
from captioner.data.records import SPLITS, Record
from captioner.data.skip_report import Skipped
from captioner.errors import CaptionerError
from captioner.utils.spelling import Listings, as_written, has_drive, is_address


def read_records(
    captions: Path,
    images: Path | None = None,
    splits: Path | None = None,
    split: str | None = None,
    anywhere: bool = False,
    wanted: Collection[str] = SPLITS,
    skipped: Skipped | None = None,
    prompts: bool = False,
) -> list[Record]:
    """Read a caption file; its format is detected from its content (see ``captioner.data.formats``).

    An image's split is taken from the file, else from the files in ``splits``, in which case unlisted images are
    ignored. Without either it is ``split``, else it is inferred from the file's name ("captions_val2017.json"), else
    "train". A Flickr8k token file finds split files in its own folder.

    Line breaks within a caption become spaces and surrounding white space is stripped; captions are otherwise
    unchanged.

    Unusable entries are skipped as far as ``skipped`` allows: malformed ones, unknown splits, images that are missing,
    without captions or listed twice (the first is used), captions that are empty or not Unicode. A damaged file, or a
    path that leads out of the folder, is always an error.

    Args:
        captions: The file with the captions, or a folder of images with their captions.
        images: The folder that image paths are relative to; by default that of ``captions``, or its parent if that
            folder is called ``annotations``. If given, absolute paths are refused.
        splits: The folder of split files, for caption files without splits.
        split: The split of images for which the file has none.
        anywhere: Whether the file may refer to images outside that folder, by ``..``, an absolute path or a symbolic
            link.
        wanted: The splits to read; images of other splits need not exist.
        skipped: Collects what is unusable, for the caller to report; by default nothing may be skipped.
        prompts: Whether fields and columns ``prompt`` of tables and JSON entries are read.

    Returns:
        One record per image, and per prompt if they are read, in the file's order.

    Raises:
        CaptionerError: The file is missing, damaged or of no known format; an image is outside its folder; too much is
            unusable.
    """
    if split is not None and split not in SPLITS:
        raise CaptionerError(f"split {split!r} is unknown: choose {', '.join(SPLITS)}")
    skipped = skipped or Skipped(captions)
    source = Source(captions, skipped, prompts=prompts)
    records = source.records(splits, split)
    if not records and not skipped.images:
        raise CaptionerError(f"{captions} names no image: give a file with captions")
    images = _folder(captions) if images is None else images
    finder = Finder(captions, images, anywhere)
    records = _placed(records, captions, finder, source.folders, skipped)
    # Of all splits, so that an image listed in two is used in only one.
    single = [record for record in _without_twins(records, captions, skipped) if record.split in wanted]
    usable = _present(_captioned(single, captions, skipped), captions, finder.listings, source.folders, skipped)
    if not anywhere:
        refuse_links_out((record.image for record in usable), captions, images, finder.listings)
    return usable


def _folder(captions: Path) -> Path | None:
    """The default image folder, if it differs from the caption file's."""
    if os.path.isdir(captions):
        return captions
    return captions.parent / os.pardir if os.path.basename(os.path.abspath(captions.parent)) == "annotations" else None


def _placed(
    records: list[Record], captions: Path, finder: Finder, folders: Mapping[int | str, str], skipped: Skipped
) -> list[Record]:
    """Resolve the image paths; skip records without a path or split. Empties the given list."""
    placed = []
    records.reverse()
    while records:
        record = records.pop()  # frees memory for the record with the full path
        name = record.image.as_posix()
        if record.image == Path():  # an empty path
            error = CaptionerError(f"image path {name!r} in {captions} is not a file's: write the image's")
            skipped.image("without a path", f"image id {record.image_id}", error)
        elif len(name.splitlines()) > 1:
            error = CaptionerError(f"image path {name!r} in {captions} has a line break: write it without")
            skipped.image("with a line break in the path", name, error)
        elif record.split not in SPLITS:
            error = CaptionerError(
                f"split {record.split!r} of {name} in {captions} is unknown: write {', '.join(SPLITS)}"
            )
            skipped.image("of an unknown split", name, error)
        else:
            placed.append(replace(record, image=finder.find(record.image, folders.get(record.image_id, ""))))
    return placed


def _without_twins(records: Sequence[Record], captions: Path, skipped: Skipped) -> list[Record]:
    by_image: dict[Path, Record] = {}
    by_id: dict[int | str, Record] = {}
    seen: set[tuple[Path, str]] = set()
    single = []
    for record in records:
        twin, namesake = by_image.get(record.image), by_id.get(record.image_id)
        if twin and (twin.split != record.split or (record.image, record.prompt) in seen):
            error = CaptionerError(
                f"{record.image} is listed twice in {captions}: put its captions into one entry"
                if twin.split == record.split
                else f"{record.image} is in the splits {twin.split} and {record.split} of {captions}: leave it in one"
            )
            skipped.image("listed before", record.image.name, error)
        elif namesake and namesake.image != record.image:
            error = CaptionerError(
                f"image id {record.image_id!r} is given twice in {captions}, to {namesake.image.name} and "
                f"{record.image.name}: give each image an id of its own"
            )
            skipped.image("with the id of another", record.image.name, error)
        else:
            by_image[record.image] = by_id[record.image_id] = record
            seen.add((record.image, record.prompt))
            single.append(record)
    return single


def _captioned(records: Sequence[Record], captions: Path, skipped: Skipped) -> list[Record]:
    """Clean captions; skip invalid ones, and images left without any."""
    captioned = []
    for record in records:
        name, texts = record.image.name, []
        for number, text in enumerate(record.captions, start=1):
            clean = " ".join(text.splitlines()).strip()
            what = f"caption {number} of {name} in {captions}"
            if not clean:
                skipped.caption("empty", name, CaptionerError(f"{what} is empty: write one or take it out"))
            elif not _encodable(clean):
                skipped.caption("no text", name, CaptionerError(f"{what} is not Unicode text: rewrite it"))
            else:
                texts.append(clean)
        if texts:
            captioned.append(record if tuple(texts) == record.captions else replace(record, captions=tuple(texts)))
        else:
            message = f"{name} in {captions} has no captions: add one or take the image out"
            skipped.image("without a caption", name, CaptionerError(message))
    return captioned


def _encodable(text: str) -> bool:
    # JSON can contain half of a surrogate pair, which cannot be encoded.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _present(
    records: Sequence[Record], captions: Path, listings: Listings, folders: Mapping[int | str, str], skipped: Skipped
) -> list[Record]:
    """Skip images that are missing."""
    missing = [record for record in records if not listings.has(record.image)]
    for record in missing:
        image = as_written(str(record.image))
        error = CaptionerError(
            f"image {image} of {captions} is missing ({len(missing)} of {len(records)} images are): "
            f"{_cure(record.image, folders.get(record.image_id))}"
        )
        skipped.image("missing", record.image.name, error)
    return [record for record in records if listings.has(record.image)] if missing else list(records)


def _cure(image: Path, folder: str | None) -> str:
    path = str(image)
    if is_address(path) and as_written(path).lower().startswith("file:"):
        return "it is an address; write the path alone, without file://"
    if is_address(path):
        return "addresses are not fetched; download the pictures and write their paths"
    if has_drive(path):
        return "it is a path of Windows; write it relative to the image folder"
    hint = f"; its address names the folder {folder}" if folder else ""
    return f"put it there or give the right image folder{hint}"
