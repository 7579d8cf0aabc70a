"""Splits defined by files that list images, or drawn at random."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from captioner.data.json_fields import read_text
from captioner.data.records import Record
from captioner.errors import CaptionerError

SPLIT_FILES = {
    "train": ("Flickr_8k.trainImages.txt", "train.txt"),
    "val": ("Flickr_8k.devImages.txt", "val.txt"),
    "test": ("Flickr_8k.testImages.txt", "test.txt"),
}
"""Flickr8k's file names, and short ones."""


def has_split_files(folder: Path) -> bool:
    """Whether a folder has any of Flickr8k's split files."""
    return any((folder / names[0]).is_file() for names in SPLIT_FILES.values())


def assign_splits(records: Sequence[Record], folder: Path) -> list[Record]:
    """Assign splits from files that list images; unlisted records are dropped.

    Args:
        records: The records of a caption file.
        folder: The folder of the files, one image a line, by path as in the caption file or by file name.

    Returns:
        The listed images; those missing from the caption file have no captions.

    Raises:
        CaptionerError: A file is missing or cannot be read.
    """
    by_path: defaultdict[str, list[Record]] = defaultdict(list)  # an image may have several prompts
    for record in records:
        by_path[str(record.image)].append(record)
    path_of = {record.image.name: str(record.image) for record in reversed(records)}
    listed: list[Record] = []
    for part, file in _files(folder).items():
        for line in read_text(file).split("\n"):
            name = line.strip()
            if name:
                found = by_path.get(name) or by_path.get(path_of.get(Path(name).name, name))
                found = found or [Record(Path(name), (), part, name)]
                listed += [replace(record, split=part) for record in found]
    return listed


def draw_validation(records: Sequence[Record], share: float, seed: int) -> list[Record]:
    """Draw images for validation, at least one and not all; deterministic for images, share and seed.

    Args:
        records: The images to train on.
        share: Of them, in (0, 1).
        seed: Seed of the draw.
    """
    images = list(dict.fromkeys(record.image for record in records))
    count = min(max(1, round(share * len(images))), len(images) - 1)
    drawn = {images[place] for place in random.Random(seed).sample(range(len(images)), max(0, count))}
    return [replace(record, split="val") if record.image in drawn else record for record in records]


def _files(folder: Path) -> dict[str, Path]:
    kind = 0 if has_split_files(folder) else 1
    files = {part: folder / names[kind] for part, names in SPLIT_FILES.items()}
    if kind == 1 and not files["train"].is_file():
        files = {part: folder / names[0] for part, names in SPLIT_FILES.items()}
    for file in files.values():
        if not file.is_file():
            raise CaptionerError(
                f"split file {file} is missing: name the folder of Flickr8k's three split files, or of train.txt, "
                "val.txt and test.txt"
            )
    return files
