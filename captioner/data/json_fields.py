"""Parsed JSON taken apart with every type checked, so that a wrong file is told by its place and not by a traceback."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from captioner.errors import CaptionerError
from captioner.utils.file_kinds import EMPTY, LOOKED_AT, identify
from captioner.utils.spelling import tell_missing

Kind = TypeVar("Kind")

KIND_NAMES: dict[type, str] = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}


def read_text(path: Path) -> str:
    """Reads a text file in UTF-8, or in UTF-16 with the byte-order mark that Excel and PowerShell write.

    Raises:
        CaptionerError: The file is missing, unreadable, empty, no text, or in another encoding.
    """
    try:
        content = path.read_bytes()
        if not content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            _refuse_other_kinds(path, content)
        text = content.decode(_encoding(content))
    except UnicodeDecodeError as error:
        raise CaptionerError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    except FileNotFoundError as error:
        raise CaptionerError(f"cannot read {path}: {tell_missing(str(path))}") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CaptionerError(f"cannot read {path}: {reason}; give a caption file that exists") from error
    if not text.strip():
        raise CaptionerError(f"{path} is empty: give a file with captions")
    return text


def _encoding(content: bytes) -> str:
    return "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def _refuse_other_kinds(path: Path, content: bytes) -> None:
    kind = identify(content[:LOOKED_AT], content[-LOOKED_AT:])
    if kind is not None and kind is not EMPTY:
        raise CaptionerError(f"{path} {kind.tell('give a file with captions', as_text=True)}")


def parse_value(text: str, where: str, start: int = 0) -> tuple[object, int]:
    """Parses the JSON value that begins at ``start``.

    Args:
        text: JSON, possibly with more after the value.
        where: The file (and line) for the error message.
        start: Index of the value's first character.

    Returns:
        The value, and the index after its last character.

    Raises:
        CaptionerError: No whole JSON value begins there.
    """
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text else ""
        raise CaptionerError(
            f"{where} is not JSON ({error.msg} at {line}column {error.colno}): if it was cut short, fetch it again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise CaptionerError(f"{where} is not usable JSON ({error}): mend it or fetch it again") from error
    return value, end


def json_lines(text: str, source: str) -> Iterator[tuple[object, str]]:
    """Parses JSON lines, passing over blank ones.

    Args:
        text: The file's content.
        source: The file, for error messages.

    Yields:
        Each line's value, and which line it is.

    Raises:
        CaptionerError: A line is not one JSON value.
    """
    # Only line feeds end a line: str.splitlines would also cut at characters that JSON leaves unescaped.
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip()
        if not line:
            continue
        where = f"{source}, line {number}"
        value, end = parse_value(line, where)
        if end < len(line):
            raise CaptionerError(f"{where} goes on after its object: write one object a line")
        yield value, where


def typed(value: object, kind: type[Kind], where: str) -> Kind:
    """Returns ``value`` as a ``kind`` (dict, list, str or bool).

    Raises:
        CaptionerError: It is of another type.
    """
    if not isinstance(value, kind):
        raise CaptionerError(f"{where} is {quote(value)}: it must be {KIND_NAMES[kind]}")
    return value


def field(entry: dict[str, Any], name: str, kind: type[Kind], where: str) -> Kind:
    """Returns the field of an object.

    Raises:
        CaptionerError: The field is missing or of another type.
    """
    if name not in entry:
        raise CaptionerError(f'{where} has no "{name}"{_beside(entry)}: add it')
    return typed(entry[name], kind, f'"{name}" of {where}')


def identity(value: object, where: str) -> int | str:
    """Returns an image id.

    Raises:
        CaptionerError: It is neither a whole number nor a text.
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
    """A value as JSON writes it, cut to what fits into a message."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:40]}…"
