"""Text that is safe to print: a file's name, its words or its captions cannot steer the terminal."""

from __future__ import annotations

import sys


def printable(text: str) -> str:
    """Text for a terminal: control characters and bytes that are no text are shown as escapes."""
    visible = "".join(
        c if c.isprintable() or c == " " else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )
    encoding = sys.stdout.encoding or "utf-8"
    return visible.encode(encoding, "backslashreplace").decode(encoding)
