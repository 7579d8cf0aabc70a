"""The one form that every caption file is read into, and its own file format: JSON lines.

One line a picture, ``{"image": path, "captions": [text, …], "split": "train" | "val" | "test"}``, with the optional
fields ``"image_id"``, ``"tags"`` (``[[name, score], …]``, what a detector saw) and ``"human"`` (``false`` for captions
that a model wrote).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner.data.json_fields import field, identity, json_lines, quote, typed
from captioner.data.skip_report import MALFORMED, Skipped
from captioner.errors import CaptionerError
from captioner.utils.files import replacing

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Record:
    """A picture and what people wrote about it.

    Attributes:
        image: The picture's file.
        captions: The reference captions as they were written, at least one, each without line breaks.
        split: One of ``SPLITS``.
        image_id: COCO's id, Karpathy's cocoid or imgid; else the picture's path as the caption file writes it.
        tags: What a detector or tagger saw, each a name and its score, as the caption file has them.
        human: Whether people wrote the captions, not a model.
    """

    image: Path
    captions: tuple[str, ...]
    split: str
    image_id: int | str
    tags: tuple[tuple[str, float], ...] = ()
    human: bool = True


def parse_jsonl(text: str, captions: Path, split: str, skipped: Skipped) -> list[Record]:
    """Parses JSON lines into records as they stand in the file: paths as written, captions unchecked.

    Args:
        text: The file's content.
        captions: The file's name, for error messages.
        split: The split of lines without one.
        skipped: Takes lines and captions in which a field is missing or of a wrong type.

    Raises:
        CaptionerError: A line is not JSON.
    """
    records = []
    for value, where in json_lines(text, str(captions)):
        try:
            records.append(_record(value, where, split, skipped))
        except CaptionerError as error:
            skipped.image(MALFORMED, where.rpartition(", ")[2], error)
    return records


def _record(value: object, where: str, split: str, skipped: Skipped) -> Record:
    entry = typed(value, dict, where)
    image = field(entry, "image", str, where)
    texts = []
    for text in field(entry, "captions", list, where):
        try:
            texts.append(typed(text, str, f"a caption of {where}"))
        except CaptionerError as error:
            skipped.caption(MALFORMED, image, error)
    part = field(entry, "split", str, where) if "split" in entry else split
    image_id = identity(entry.get("image_id", image), where)
    human = field(entry, "human", bool, where) if "human" in entry else True
    return Record(Path(image), tuple(texts), part, image_id, _tags(entry, where), human)


def _tags(entry: dict[str, Any], where: str) -> tuple[tuple[str, float], ...]:
    tags = []
    for tag in field(entry, "tags", list, where) if "tags" in entry else ():
        match tag:
            case [str(name), int() | float() as score] if (
                not isinstance(score, bool) and abs(score) <= sys.float_info.max
            ):
                tags.append((name, float(score)))
            case _:
                raise CaptionerError(f"a tag of {where} is {quote(tag)}: write [name, score], the score a number")
    return tuple(tags)


def write_jsonl(records: Iterable[Record], path: Path) -> None:
    """Writes records as JSON lines; the file appears whole or not at all.

    A picture below the file's folder is written relative to it, so that the folder can be moved; any other picture by
    its absolute path.

    Args:
        records: What to write, in this order.
        path: The file.

    Raises:
        CaptionerError: The file cannot be written.
    """
    folder = os.path.abspath(path.parent)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for record in records:
            image = _written(record.image, folder)
            line: dict[str, object] = {"image": image, "captions": record.captions, "split": record.split}
            if record.image_id != image:
                line["image_id"] = record.image_id
            if record.tags:
                line["tags"] = record.tags
            if not record.human:
                line["human"] = False
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _written(image: Path, folder: str) -> str:
    whole = Path(os.path.abspath(image))
    return whole.relative_to(folder).as_posix() if whole.is_relative_to(folder) else str(whole)
