"""Console output: status lines on standard error, and text that is safe to print."""

from __future__ import annotations

import contextlib
import sys


def print_status(line: str) -> None:
    """Write a line to standard error; a closed pipe or a full disk is ignored."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Escape control characters and undecodable bytes, so that text can be printed to a terminal."""
    visible = "".join(
        c if c.isprintable() or c == " " else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )
    encoding = sys.stdout.encoding or "utf-8"
    return visible.encode(encoding, "backslashreplace").decode(encoding)
