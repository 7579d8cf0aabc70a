"""Text files for language model training."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from captioner.data.json_fields import field, json_lines, typed
from captioner.errors import CaptionerError

_GZIP_MAGIC = b"\x1f\x8b"


def read_text(path: str | Path, held_out: float) -> tuple[list[str], list[str]]:
    """Read lines for training and validation.

    Args:
        path: A text file with one sentence per line, or JSON lines with the captions of one image each, such as
            ``{"captions": ["a dog", "a brown dog"], "split": "train"}``; either may be compressed by gzip.
        held_out: Share of lines at the end of the file to hold out if the file has no ``split``, in (0, 1). If it has,
            ``train`` and ``val`` are used; lines without a split are ``train``.

    Returns:
        Lines for training and for validation; blank ones are dropped.

    Raises:
        CaptionerError: The file cannot be read, or too short.
    """
    groups = _groups(Path(path))
    if any(split is not None for split, _ in groups):
        parts = [[g for g in groups if (g[0] or "train") == name] for name in ("train", "val")]
    else:
        kept = len(groups) - max(1, round(held_out * len(groups)))
        parts = [groups[:kept], groups[kept:]]
    train, val = ([line.strip() for _, lines in part for line in lines if line.strip()] for part in parts)
    if not train or not val:
        raise CaptionerError(f"text {path}: has too few lines to learn from some and be tested on others")
    return train, val


def read_lines(path: str | Path) -> list[str]:
    """Read all lines of a file, whatever split it names, without blank ones.

    Args:
        path: As for `read_text`.

    Raises:
        CaptionerError: The file cannot be read, or has no line.
    """
    lines = [line.strip() for _, group in _groups(Path(path)) for line in group if line.strip()]
    if not lines:
        raise CaptionerError(f"text {path}: has no line; name a file with text")
    return lines


def read_whole(path: Path) -> str:
    """Read a text file in UTF-8, which may be compressed by gzip.

    Raises:
        CaptionerError: It cannot be read.
    """
    try:
        content = path.read_bytes()
        if content.startswith(_GZIP_MAGIC):
            content = gzip.decompress(content)
        return content.decode("utf-8-sig")
    except OSError as error:
        raise CaptionerError(f"text {path}: cannot be read: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise CaptionerError(f"text {path}: is damaged or truncated ({error}); get a complete copy") from error
    except UnicodeDecodeError as error:
        raise CaptionerError(f"text {path}: is not UTF-8 at byte {error.start}; convert it") from error


def _groups(path: Path) -> list[tuple[str | None, list[str]]]:
    """The lines of each image, or each line by itself, with the split."""
    text = read_whole(path)
    is_json = path.name.removesuffix(".gz").endswith(".jsonl")
    groups = list(_captions(text, f"text {path}")) if is_json else [(None, [line]) for line in text.splitlines()]
    return [(split, lines) for split, lines in groups if any(line.strip() for line in lines)]


def _captions(text: str, source: str) -> Iterator[tuple[str | None, list[str]]]:
    for value, where in json_lines(text, source):
        entry = typed(value, dict, where)
        captions = [typed(each, str, f"a caption of {where}") for each in field(entry, "captions", list, where)]
        yield field(entry, "split", str, where) if "split" in entry else None, captions
