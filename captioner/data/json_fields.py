"""Typed access to parsed JSON: a wrong type is reported with its position in the file."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from captioner.errors import CaptionerError
from captioner.utils.file_kinds import EMPTY, LOOKED_AT, identify
from captioner.utils.spelling import as_written, tell_missing

Kind = TypeVar("Kind")

_DECODER = json.JSONDecoder()
_NEXT = re.compile(r"[ \t\n\r]*([,\]])[ \t\n\r]*")
_BLANKS = re.compile(r"[ \t\n\r]*")

KIND_NAMES: dict[type, str] = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, or in UTF-16 or 32 with the byte-order mark that Excel and PowerShell write.

    Raises:
        CaptionerError: The file is missing, unreadable, empty, not text, or in another encoding.
    """
    try:
        content = path.read_bytes()
        if _encoding(content) == "utf-8-sig":
            _refuse_other_kinds(path, content)
        text = content.decode(_encoding(content))
    except UnicodeDecodeError as error:
        raise _no_text(path, content, f"byte {error.start}") from error
    except FileNotFoundError as error:
        raise CaptionerError(f"cannot read {as_written(str(path))}: {tell_missing(str(path))}") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CaptionerError(f"cannot read {path}: {reason}; give a caption file that exists") from error
    if not text.strip("\0 \t\r\n"):
        raise CaptionerError(f"{path} is empty: give a file with captions")
    if text.count("\0") > len(text) // 4:  # UTF-16 without its mark
        raise _no_text(path, content, "every other character is NUL")
    return text


def _no_text(path: Path, content: bytes, found: str) -> CaptionerError:
    """Tell a text in another encoding from bytes that are no text."""
    start = content[:LOOKED_AT]
    fewer, more = sorted(start[side::2].count(0) for side in (0, 1))
    if 4 * fewer > more:  # UTF-16 has nearly all of its zeros on one side
        return CaptionerError(f"{path} is not text (it has bytes of zero): give a file with captions")
    return CaptionerError(f"{path} is not UTF-8 text ({found}): save it as UTF-8")


def _encoding(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    return "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def _refuse_other_kinds(path: Path, content: bytes) -> None:
    kind = identify(content[:LOOKED_AT], content[-LOOKED_AT:])
    if kind is not None and kind is not EMPTY:
        raise CaptionerError(f"{path} {kind.tell('give a file with captions', as_text=True)}")


def parse_value(text: str, where: str, start: int = 0) -> tuple[object, int]:
    """Parse the JSON value that begins at ``start``.

    Args:
        text: JSON, possibly with more after the value.
        where: The file (and line) for the error message.
        start: Index of the value's first character.

    Returns:
        The value, and the index after its last character.

    Raises:
        CaptionerError: There is no complete JSON value.
    """
    with _telling(text, where):
        value: object
        value, end = _DECODER.raw_decode(text, start)
    return value, end


def parse_members(
    text: str, where: str, start: int, lists: Mapping[str, Callable[[int, object], None]]
) -> tuple[dict[str, object], int]:
    """Parse a JSON object without storing its long lists: their elements are passed on one by one.

    Args:
        text: JSON, possibly with more after the object.
        where: The file for the error message.
        start: Index of the object's first character.
        lists: Callback for the index and value of each element, by name of the list.

    Returns:
        The object with these lists empty, and the index after its last character.

    Raises:
        CaptionerError: There is no complete JSON object.
    """
    content: dict[str, object] = {}
    with _telling(text, where):
        position, more = _open(text, start + 1, "}")
        while more:
            name, position = _DECODER.raw_decode(text, position)
            if not isinstance(name, str):
                raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, position)
            position = _skip_mark(text, position, ":")
            if name in lists and text[position : position + 1] == "[":
                content[name] = []
                position = _hand_over(text, position, lists[name])
            else:
                content[name], position = _DECODER.raw_decode(text, position)
            position, more = _go_on(text, position, "}")
    return content, position


def _hand_over(text: str, start: int, take: Callable[[int, object], None]) -> int:
    position, more = _open(text, start + 1, "]")
    number = 0
    while more:
        value, position = _DECODER.raw_decode(text, position)
        take(number, value)
        number += 1
        mark = _NEXT.match(text, position)
        if mark is None:
            raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
        position, more = mark.end(), mark[1] == ","
    return position


def _open(text: str, position: int, end: str) -> tuple[int, bool]:
    """The index of the first element, or the one after the end of an empty object or list, and whether it has any."""
    position = _skip_blanks(text, position)
    return (position + 1, False) if text[position : position + 1] == end else (position, True)


def _go_on(text: str, position: int, end: str) -> tuple[int, bool]:
    """The index of the next element, or the one after the end, and whether there is a next one."""
    position = _skip_blanks(text, position)
    mark = text[position : position + 1]
    if mark == end:
        return position + 1, False
    return _skip_mark(text, position, ","), True


def _skip_mark(text: str, position: int, mark: str) -> int:
    position = _skip_blanks(text, position)
    if text[position : position + 1] != mark:
        raise json.JSONDecodeError(f"Expecting {mark!r} delimiter", text, position)
    return _skip_blanks(text, position + 1)


def _skip_blanks(text: str, position: int) -> int:
    match = _BLANKS.match(text, position)
    assert match is not None
    return match.end()


@contextmanager
def _telling(text: str, where: str) -> Iterator[None]:
    """Convert JSON errors to one-line messages."""
    try:
        yield
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text else ""
        rest = text[error.pos :].strip()
        is_cut = error.msg.startswith("Unterminated") or (len(rest) < 7 and rest[-1:] not in ("]", "}"))
        cure = "if it was cut short, fetch it again" if is_cut else "fix it there, or fetch it again"
        reason = error.msg.removesuffix(" at")
        raise CaptionerError(f"{where} is not JSON ({reason} at {line}column {error.colno}): {cure}") from error
    except (ValueError, RecursionError) as error:
        raise CaptionerError(f"{where} is not usable JSON ({error}): fix it or fetch it again") from error


def json_lines(text: str, source: str) -> Iterator[tuple[object, str]]:
    """Parse JSON lines, skipping blank ones.

    Args:
        text: The file's content.
        source: The file, for error messages.

    Yields:
        The value and number of each line.

    Raises:
        CaptionerError: A line is not a single JSON value.
    """
    # Only line feeds end a line: str.splitlines would also cut at characters that JSON leaves unescaped.
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip()
        if not line:
            continue
        where = f"{source}, line {number}"
        value, end = parse_value(line, where)
        if end < len(line):
            raise CaptionerError(f"{where} continues after its object: write one object a line")
        yield value, where


def typed(value: object, kind: type[Kind], where: str) -> Kind:
    """Return ``value`` as a ``kind`` (dict, list, str or bool).

    Raises:
        CaptionerError: It is of another type.
    """
    if not isinstance(value, kind):
        raise CaptionerError(f"{where} is {quote(value)}: it must be {KIND_NAMES[kind]}")
    return value


def field(entry: dict[str, Any], name: str, kind: type[Kind], where: str) -> Kind:
    """Return the field of an object.

    Raises:
        CaptionerError: The field is missing or of another type.
    """
    if name not in entry:
        raise CaptionerError(f'{where} has no "{name}"{_beside(entry)}: add it')
    return typed(entry[name], kind, f'"{name}" of {where}')


def identity(value: object, where: str) -> int | str:
    """Return an image id.

    Raises:
        CaptionerError: It is neither an integer nor a string.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise CaptionerError(f"the image id of {where} is {quote(value)}: it must be a whole number or a text")
    return value


def fields_of(entry: Iterable[str], most: int = 8) -> str:
    """The names of an object's fields, or of a table's columns, for a message."""
    names = list(entry)
    return ", ".join(map(repr, names[:most])) + (", …" if len(names) > most else "")


def _beside(entry: dict[str, Any]) -> str:
    return f" (its fields: {fields_of(entry)})" if entry else ""


def quote(value: object) -> str:
    """A value as JSON, shortened for a message."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:40]}…"
