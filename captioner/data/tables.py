"""Tables of captions, with cells separated by comma, semicolon, tab or another delimiter."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from captioner.data.entries import Entry, find_columns, flaw, read_entry
from captioner.data.folders import SUFFIXES
from captioner.data.json_fields import fields_of
from captioner.data.skip_report import MALFORMED, Skipped
from captioner.errors import CaptionerError

_EXCEL_DELIMITER = re.compile(r'"?sep=(?P<delimiter>[^\s"]|\t)"?\s*', re.I)
"""A first line that declares the delimiter to Excel."""

_USUAL = ",;\t|"
_NAMES = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars (|)"}
_NEED = (
    "a table needs a column of pictures, such as image, file_name or path, and one of captions, such as caption or text"
)

Row = tuple[int, list[str]]
"""The last line number of a row, and its stripped cells."""


def read_table(text: str, captions: Path, skipped: Skipped, pictures: bool, prompts: bool = False) -> Iterator[Entry]:
    """Read rows with one caption each, or with several caption columns per image.

    The delimiter is the one for which the first row names columns of images and captions; a table of two columns, the
    first with image files, needs no header.

    Args:
        text: The file's content.
        captions: The file, for messages.
        skipped: Collects rows that do not match the header.
        pictures: Whether image paths are required.
        prompts: Whether a column ``prompt`` beside the captions is read.

    Raises:
        CaptionerError: It is not such a table, or quotes are unbalanced.
    """
    given = _EXCEL_DELIMITER.match(text)
    first = 1 + text.count("\n", 0, given.end()) if given else 1
    if given:
        text = text[given.end() :]
    start = next((line for line in text.splitlines() if line.strip()), "")
    delimiter, header = _header(start, given["delimiter"] if given else None, captions)
    rows = _rows(text, delimiter, captions, first)
    if header is None:
        header = ["image", "caption"]
    else:
        rows = rows[1:]
        header = list(_distinct(header))
        if rows and all(len(row) == len(header) + 1 and row[0].isdigit() for _, row in rows):
            header = ["", *header]  # R's names of rows
    for number, row in rows:
        while len(row) > len(header) and not row[-1]:
            row.pop()
        if len(row) != len(header):
            cure = f'write a caption that holds a {_one(delimiter)} in "quotes"'
            if len(row) < len(header):
                cure = f"a {_one(delimiter)} is missing, or the rest of the line"
            told = f"{captions}, line {number} has {len(row)} fields where its header has {len(header)}: {cure}"
            skipped.caption(MALFORMED, f"line {number}", CaptionerError(told))
            continue
        cells = {name: cell for name, cell in zip(header, row, strict=True) if name}
        if reason := flaw(cells):
            skipped.leave_out("captions", reason, f"line {number}")
            continue
        entry = read_entry(cells, f"{captions}, line {number}", skipped, pictures, prompts)
        yield entry._replace(single=True)  # an image may have several rows


def _header(line: str, given: str | None, captions: Path) -> tuple[str, list[str] | None]:
    """The delimiter, and the column names; None without a header."""
    marks = dict.fromkeys(character for character in line if not (character.isalnum() or character in " \"'_-.#/\\"))
    candidates = [given] if given else [*(mark for mark in _USUAL if mark in marks), *marks]
    rows = {mark: _cells(line, mark) for mark in candidates}
    for mark, names in rows.items():
        if find_columns(tuple(names)).suffice:
            return mark, names
    for mark, cells in rows.items():
        if len(cells) == 2 and all(cells) and Path(cells[0]).suffix.lower() in SUFFIXES:
            return mark, None
    if not rows or max(map(len, rows.values())) < 2:
        raise CaptionerError(
            f"{captions} is text of one column, which begins {line.strip()[:40]!r}: {_NEED}; JSON of many forms is "
            "read as well"
        )
    mark, names = max(rows.items(), key=lambda item: len(item[1]))
    raise CaptionerError(
        f"{captions} is a table of {len(names)} columns between {_NAMES.get(mark, repr(mark))}, which begins with "
        f"{fields_of(names)}: {_NEED}"
    )


def _distinct(names: Sequence[str]) -> Iterator[str]:
    """The columns' names, those that were before with a number, as ``caption_2``."""
    seen: Counter[str] = Counter()
    for name in names:
        seen[name] += 1
        yield name if seen[name] == 1 or not name else f"{name}_{seen[name]}"


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]
    except csv.Error:
        return [cell.strip() for cell in line.split(delimiter)]


def _rows(text: str, delimiter: str, captions: Path, first: int) -> list[Row]:
    """The rows that are not empty."""
    try:
        rows = list(_parsed(text, delimiter, csv.QUOTE_MINIMAL, first))
    except csv.Error as error:
        if delimiter in ",;":
            raise CaptionerError(f"{captions}, {error}: fix it") from error
        # If no caption has the delimiter, many programs write quotes unescaped.
        rows = list(_parsed(text, delimiter, csv.QUOTE_NONE, first))
    return [row for row in rows if any(row[1])]


def _parsed(text: str, delimiter: str, quoting: Literal[0, 3], first: int) -> Iterator[Row]:
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, skipinitialspace=True, strict=True
    )
    begin = first
    try:
        for row in reader:
            yield reader.line_num + first - 1, [cell.strip() for cell in row]
            begin = reader.line_num + first
    except csv.Error as error:
        reason = str(error)
        if "end of data" in reason:
            reason = "a quotation mark is not closed"
        elif "larger than field limit" in reason:
            reason = f"a quotation mark is not closed, or a cell has more than {csv.field_size_limit():,} characters"
        raise csv.Error(f"line {begin} is not CSV ({reason})") from error


def _one(delimiter: str) -> str:
    return {",": "comma", ";": "semicolon", "\t": "tab"}.get(delimiter, delimiter)
