"""Captions in tar shards: the samples of a WebDataset, each a picture with text or JSON of the same name.

A sample is the members of one name up to the first dot of their file name, such as ``0001.jpg``, ``0001.txt`` and
``0001.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from captioner.data.entries import Entry, find_columns, read_entry
from captioner.data.folders import SUFFIXES
from captioner.data.json_fields import typed
from captioner.data.skip_report import MALFORMED, Skipped
from captioner.errors import CaptionerError
from captioner.utils.tar_files import Part, members, split_path

CAPTION_ENDINGS = ("txt", "caption")
"""Of the text of a sample, a caption a line."""

MARK = "captioner"
"""The entry of a sample's JSON that tells what of its text ``captioner write`` wrote."""

LARGEST_TEXT = 2**24
"""Bytes of the longest text or JSON of a sample that is read."""


def read_shard(file: Path, name: Path, skipped: Skipped) -> Iterator[Entry]:
    """Read the samples of a shard that have a picture, in its order.

    Captions are the lines of the text, without one those of the JSON, whose fields are named as in any entry; it may
    also tell split, id, tags and whether people wrote the captions.

    Args:
        file: The shard.
        name: What paths of its pictures begin with.
        skipped: Takes samples that cannot be read.

    Raises:
        CaptionerError: The shard cannot be read.
    """
    for key, sample in _samples(members(file)).items():
        picture = picture_of(sample)
        if picture is None:
            continue
        where = f"{key} of {file}"
        try:
            yield read_entry(_fields(sample, (name / f"{key}.{picture}").as_posix(), where), where, skipped)
        except CaptionerError as error:
            skipped.image(MALFORMED, f"{key}.{picture}", error)


def split_member(name: str) -> tuple[str, str] | None:
    """Split a member's name into that of its sample and its ending; None for a member that belongs to no sample."""
    folder, _, last = name.rpartition("/")
    stem, dot, ending = last.partition(".")
    if not (stem and dot):
        return None
    return f"{folder}/{stem}" if folder else stem, ending


def picture_of(endings: Iterable[str]) -> str | None:
    """Find the ending of a sample's picture; None without a picture."""
    return next((ending for ending in endings if f".{ending.lower()}" in SUFFIXES), None)


def shard_sizes(pictures: Iterable[Path]) -> list[int]:
    """Count the pictures in a row that lie in the same shard; none where any lies in no shard."""
    sizes = []
    for shard, inside in groupby(pictures, _shard_of):
        if shard is None:
            return []
        sizes.append(sum(1 for _ in inside))
    return sizes


def _shard_of(picture: Path) -> str | None:
    place = split_path(picture)
    return place[0] if place else None


def _samples(found: Mapping[str, Part]) -> dict[str, dict[str, Part]]:
    samples: dict[str, dict[str, Part]] = {}
    for name, part in found.items():
        if place := split_member(name):
            sample, ending = place
            samples.setdefault(sample, {})[ending] = part
    return samples


def _fields(sample: Mapping[str, Part], image: str, where: str) -> dict[str, Any]:
    """A sample as an entry of JSON lines."""
    facts: dict[str, Any] = {}
    if "json" in sample:
        try:
            facts = typed(json.loads(_text(sample["json"], where)), dict, f"the JSON of {where}")
        except (ValueError, RecursionError) as error:
            raise CaptionerError(f"the JSON of {where} is damaged ({error}): mend it") from error
    text = next((_text(sample[ending], where) for ending in CAPTION_ENDINGS if ending in sample), None)
    own: dict[str, Any] = {"image": image}
    if text is not None:
        own["captions"] = [line.strip() for line in text.splitlines() if line.strip()]
        mark = facts.get(MARK)
        if isinstance(mark, dict) and mark.get("caption") == text.strip():
            own["human"] = False
    elif not find_columns(tuple(facts)).captions:
        own["captions"] = []
    return own | facts | own


def _text(part: Part, where: str) -> str:
    if part.size > LARGEST_TEXT:
        raise CaptionerError(f"the text of {where} has {part.size:,} bytes, more than {LARGEST_TEXT:,}: shorten it")
    try:
        return part.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CaptionerError(f"the text of {where} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    except OSError as error:
        raise CaptionerError(f"{where} cannot be read: {error.strerror or error}") from error
