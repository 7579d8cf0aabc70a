"""Convert a table row or a JSON object to a record, by the names of its fields."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from captioner.data.json_fields import field, fields_of, identity, quote, typed
from captioner.data.records import Record, tags_of
from captioner.data.skip_report import MALFORMED, Skipped
from captioner.errors import CaptionerError
from captioner.utils.caching import memoized

NAMES: dict[str, tuple[str, ...]] = {
    "image": (
        *("image", "imagepath", "imagefile", "imagefilename", "imagename", "filename", "filepath", "path", "file"),
        *("img", "imgpath", "imgname", "imgfile", "photo", "photopath", "picture", "picturepath"),
    ),
    "captions": (
        *("captions", "caption", "captiontext", "sentences", "sentence", "text", "texts", "raw", "comments", "comment"),
        *("descriptions", "description", "references", "reference", "prompt", "alttext", "alt", "title"),
    ),
    "split": ("split", "splits", "subset", "set", "partition"),
    "image_id": ("imageid", "imgid", "cocoid"),
}
"""Accepted names of fields and columns, the most common first, in lower case with letters and digits only. Names of
caption columns may end with a number, as in ``caption_1``, ``caption_2``."""

SPLIT_NAMES = {
    **{"training": "train", "restval": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"},
    **{"train": "train", "val": "val", "test": "test"},
}
"""Common names of splits. ``restval`` is the part of COCO's val2014 that Karpathy's splits leave for training."""


_FLAGS = {"is_rejected": "rejected", "is_precanned": "canned"}
"""VizWiz's flags for texts that are no descriptions, and their names in messages."""

_PYTHON_TEXT = re.compile(r"'(?:[^'\\\n]|\\[\\'\"nt])*'|\"(?:[^\"\\\n]|\\[\\'\"nt])*\"")

UNSAID = "\0"
"""Placeholder for a missing split."""


class Columns(NamedTuple):
    """The fields by role; None for a missing one.

    Attributes:
        image: The image's path.
        captions: Fields with one or several captions each.
        split: The split.
        image_id: The image's id.
        prompt: The text that the captions continue.
    """

    image: str | None
    captions: tuple[str, ...]
    split: str | None
    image_id: str | None
    prompt: str | None

    @property
    def suffice(self) -> bool:
        """Whether both images and captions have a field."""
        return bool(self.captions) and (self.image is not None or self.image_id is not None)


class Entry(NamedTuple):
    """A record as written in the file.

    Attributes:
        record: Its split is `UNSAID` if the entry has none.
        single: Whether it has a single caption, to be joined with others of the same image.
    """

    record: Record
    single: bool


@memoized(maxsize=1024)  # a file has few distinct sets of fields
def find_columns(names: tuple[str, ...]) -> Columns:
    """Assign roles to an object's fields or a table's columns."""
    plain = {name: re.sub(r"[\W_]+", "", name.lower()) for name in reversed(names)}  # the first of duplicates is used

    def first(role: str) -> str | None:
        known = {short: name for name, short in plain.items()}
        return next((known[short] for short in NAMES[role] if short in known), None)

    stems = {name: short.rstrip("0123456789") for name, short in plain.items()}
    chosen = next((short for short in NAMES["captions"] if short in stems.values()), None)
    captions = tuple(name for name in names if stems[name] == chosen)
    prompt = next((name for name, short in plain.items() if short == "prompt" and name not in captions), None)
    return Columns(first("image"), tuple(dict.fromkeys(captions)), first("split"), first("image_id"), prompt)


def split_name(text: str) -> str:
    """Normalize a split name; unknown names are returned unchanged."""
    return SPLIT_NAMES.get(text.strip().lower(), text)


def flaw(entry: Mapping[str, Any]) -> str:
    """Which of VizWiz's flags says that a text is no description; empty if none does.

    Args:
        entry: The fields, or the cells of a row, where a flag may be a number or a text.
    """
    for name, reason in _FLAGS.items():
        value = entry.get(name)
        if value and str(value).lower() in ("true", "1", "1.0"):
            return reason
    return ""


def read_entry(
    entry: dict[str, Any], where: str, skipped: Skipped, pictures: bool = True, prompts: bool = False
) -> Entry:
    """Read one image, or one caption of it, from an object or a row.

    Args:
        entry: The fields.
        where: The entry, for messages.
        skipped: Collects captions of a wrong type.
        pictures: Whether the picture's path is needed; else its id will do.
        prompts: Whether a field ``prompt`` beside the captions is read.

    Raises:
        CaptionerError: A field is missing or of a wrong type.
    """
    columns = find_columns(tuple(entry))
    image = _image(entry, columns, where, pictures)
    texts, single = _captions(entry, columns, where, image, skipped)
    split = UNSAID if columns.split is None else split_name(field(entry, columns.split, str, where))
    image_id = image if columns.image_id is None else identity(entry[columns.image_id], where)
    # Captions written by captioner have a log-probability.
    human = field(entry, "human", bool, where) if "human" in entry else "log_probability" not in entry
    prompt = field(entry, columns.prompt, str, where) if prompts and columns.prompt else ""
    record = Record(Path(image), texts, split, image_id, tags_of(entry, where), human, prompt)
    return Entry(record, single)


def join(entries: Iterable[Entry]) -> list[Record]:
    """Join single captions of the same image, split and prompt into one record, at the position of the first."""
    records: list[Record] = []
    texts: dict[int, list[str]] = {}
    places: dict[tuple[Path, str, str], int] = {}
    for record, single in entries:
        key = record.image, record.split, record.prompt
        if single and key in places:
            texts[places[key]] += record.captions
            continue
        if single:
            places[key] = len(records)
            texts[len(records)] = list(record.captions)
        records.append(record)
    for place, own in texts.items():
        if len(own) != len(records[place].captions):
            records[place] = replace(records[place], captions=tuple(own))
    return records


def _image(entry: dict[str, Any], columns: Columns, where: str, pictures: bool) -> str:
    if columns.image is not None:
        value = entry[columns.image]
        if isinstance(value, dict) and isinstance(value.get("path"), str):  # as Hugging Face's data sets write it
            value = value["path"]
        elif type(value) is int:  # a name without its ending, as a table holds it
            value = str(value)
        return typed(value, str, f'"{columns.image}" of {where}')
    if columns.image_id is None:
        raise CaptionerError(f'{where} has no "image" (its fields: {fields_of(entry)}): add it')
    value = identity(entry[columns.image_id], where)
    if pictures and not isinstance(value, str):
        raise CaptionerError(f'{where} has an "{columns.image_id}" but no "image": add the path of the picture')
    return str(value)


def _captions(
    entry: dict[str, Any], columns: Columns, where: str, image: str, skipped: Skipped
) -> tuple[tuple[str, ...], bool]:
    if not columns.captions:
        raise CaptionerError(f'{where} has no "captions" (its fields: {fields_of(entry)}): add it')
    if len(columns.captions) > 1:
        values: object = [value for name in columns.captions if (value := entry[name]) not in ("", None)]
    else:
        values = _unpacked(entry[columns.captions[0]])
    if isinstance(values, str):
        return (values,), True
    if not isinstance(values, Sequence):
        raise CaptionerError(
            f'"{columns.captions[0]}" of {where} is {quote(values)}: it must be a text or a list of texts'
        )
    return tuple(_texts(values, where, image, skipped)), False


def _unpacked(value: object) -> object:
    """Parse a table cell that holds a list of texts, as JSON or as pandas writes it; others are returned unchanged."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            content = json.loads(value)
        except ValueError:
            texts = _PYTHON_TEXT.findall(value)
            is_list = texts and not _PYTHON_TEXT.sub("", value[1:-1]).strip(", \n")
            # One by one: without commas, as NumPy prints them, Python would join them.
            return [ast.literal_eval(text) for text in texts] if is_list else value
        if isinstance(content, list) and all(isinstance(each, str) for each in content):
            return content
    return value


def _texts(values: Iterable[object], where: str, image: str, skipped: Skipped) -> Iterator[str]:
    """Yield the texts of a list of captions, each a text or an object with one."""
    for value in values:
        if isinstance(value, dict):
            names = find_columns(tuple(value)).captions
            value = value[names[0]] if names else value
        try:
            yield typed(value, str, f"a caption of {where}")
        except CaptionerError as error:
            skipped.caption(MALFORMED, image, error)
