"""The record that every caption file is read into, and its own JSON lines format.

One line per image, ``{"image": path, "captions": [text, …], "split": "train" | "val" | "test"}``, with the optional
fields ``"image_id"``, ``"tags"`` (``[[name, score], …]``, from a detector) and ``"human"`` (``false`` for captions
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

from captioner.data.json_fields import field, quote
from captioner.errors import CaptionerError
from captioner.utils.files import replacing

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)  # COCO has 123,287
class Record:
    """An image with its captions.

    Attributes:
        image: The image file.
        captions: The reference captions as they were written, at least one, each without line breaks.
        split: One of ``SPLITS``.
        image_id: COCO's id, Karpathy's cocoid or imgid; else the image's path as written in the caption file.
        tags: Names and scores from a detector or tagger.
        human: Whether the captions were written by people, not by a model.
        prompt: The text that the captions continue, such as a question; it is read and not learned.
    """

    image: Path
    captions: tuple[str, ...]
    split: str
    image_id: int | str
    tags: tuple[tuple[str, float], ...] = ()
    human: bool = True
    prompt: str = ""


def tags_of(entry: dict[str, Any], where: str) -> tuple[tuple[str, float], ...]:
    """The tags of an entry.

    Raises:
        CaptionerError: One is not a name and a number.
    """
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


def refuse_without_prompts(records: Iterable[Record], files: str, cure: str) -> None:
    """Refuse captions that were to continue prompts, if none has one.

    Raises:
        CaptionerError: No record has a prompt; it names the files and the other cure.
    """
    if not any(record.prompt for record in records):
        raise CaptionerError(
            f"{files}: no caption has a prompt; write one into a column or field 'prompt' beside the caption, or {cure}"
        )


def write_jsonl(records: Iterable[Record], path: Path) -> None:
    """Write records as JSON lines, atomically.

    Paths below the file's folder are written relative to it, so that the folder can be moved; others are absolute.

    Args:
        records: The records, in this order.
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
            if record.prompt:
                line["prompt"] = record.prompt
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _written(image: Path, folder: str) -> str:
    whole = Path(os.path.abspath(image))
    return whole.relative_to(folder).as_posix() if whole.is_relative_to(folder) else str(whole)
