"""Text for people: lines on standard error, and what is safe to print."""

from __future__ import annotations

import contextlib
import sys


def print_status(line: str) -> None:
    """Writes a line on standard error. Where nobody reads it any more, or its disk is full, the work goes on."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Text for a terminal: control characters and bytes that are no text are shown as escapes."""
    visible = "".join(
        c if c.isprintable() or c == " " else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )
    encoding = sys.stdout.encoding or "utf-8"
    return visible.encode(encoding, "backslashreplace").decode(encoding)
