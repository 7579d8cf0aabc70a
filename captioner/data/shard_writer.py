"""A data set as tar shards of a WebDataset: ``train-000000.tar`` with ``000000000.jpg``, ``.txt`` and ``.json``."""

from __future__ import annotations

import io
import json
import os
import random
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.data.folders import is_picture
from captioner.data.records import SPLITS, Record
from captioner.errors import CaptionerError
from captioner.utils.files import replacing
from captioner.utils.tar_files import END, find_member, members

SHARD_SIZE = 1000
"""Pictures of a shard."""


@dataclass(frozen=True)
class Shard:
    """A shard that is to be written.

    Attributes:
        path: The file.
        first: The number of its first picture in the whole data set.
        records: Its pictures.
    """

    path: Path
    first: int
    records: Sequence[Record]


def plan_shards(records: Sequence[Record], folder: Path, size: int = SHARD_SIZE, seed: int = 0) -> list[Shard]:
    """Divide records into shards, each of one split.

    Those for training are shuffled first, so that pictures that lie in one shard have no more in common than others.

    Args:
        records: The data set.
        folder: Where the shards are to be.
        size: Most pictures of a shard.
        seed: Another one shuffles otherwise.

    Raises:
        CaptionerError: The size is not positive, or the folder holds other shards.
    """
    if size < 1:
        raise CaptionerError(f"the size of a shard is {size}; it must be at least 1")
    shards: list[Shard] = []
    first = 0
    for split in SPLITS:
        own = [record for record in records if record.split == split]
        if split == "train":
            random.Random(seed).shuffle(own)
        for number, start in enumerate(range(0, len(own), size)):
            part = own[start : start + size]
            shards.append(Shard(folder / f"{split}-{number:06d}{END}", first, part))
            first += len(part)
    wanted = {shard.path for shard in shards}
    other = next((path for path in sorted(folder.glob(f"*{END}")) if path not in wanted), None)
    if other is not None:
        raise CaptionerError(f"{other} is no shard of this data set; write to a folder of its own")
    return shards


def write_shard(shard: Shard) -> bool:
    """Write a shard; the file appears whole or not at all, and is the same whenever it is written.

    Returns:
        Whether it was written; one that is there, with members of the same names and sizes, stays.

    Raises:
        CaptionerError: A picture cannot be read, the file cannot be written, or it is another one.
    """
    if shard.path.exists():
        there = [(name, part.size) for name, part in members(shard.path).items()]
        if there != list(_sizes(shard)):
            raise CaptionerError(f"{shard.path} is there and holds something else; write to another folder")
        return False
    with replacing(shard.path) as temporary, tarfile.open(temporary, "w:", format=tarfile.PAX_FORMAT) as tar:
        for number, record in enumerate(shard.records, shard.first):
            for name, content in ((_picture_name(number, record), _read(record.image)), *_texts(number, record)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return True


def _sizes(shard: Shard) -> Iterator[tuple[str, int]]:
    for number, record in enumerate(shard.records, shard.first):
        try:
            part = find_member(record.image)
            yield _picture_name(number, record), part.size if part else os.stat(record.image).st_size
        except OSError as error:
            raise CaptionerError(f"{record.image}: cannot be read: {error.strerror or error}") from error
        yield from ((name, len(content)) for name, content in _texts(number, record))


def _picture_name(number: int, record: Record) -> str:
    return f"{number:09d}{record.image.suffix.lower() if is_picture(record.image.name) else '.jpg'}"


def _texts(number: int, record: Record) -> list[tuple[str, bytes]]:
    facts: dict[str, object] = {"image_id": record.image_id, "split": record.split}
    if record.tags:
        facts["tags"] = record.tags
    if not record.human:
        facts["human"] = False
    return [
        (f"{number:09d}.txt", "\n".join(record.captions).encode()),
        (f"{number:09d}.json", json.dumps(facts, ensure_ascii=False).encode()),
    ]


def _read(image: Path) -> bytes:
    try:
        part = find_member(image)
        return part.read() if part else image.read_bytes()
    except OSError as error:
        raise CaptionerError(f"{image}: cannot be read: {error.strerror or error}") from error
