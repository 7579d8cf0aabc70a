"""Captions in text files next to images: ``photo.txt`` or ``photo.caption``, UTF-8, one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.sidecars.policy import Captioned
from captioner.sidecars.targets import Target

SLOT = "caption"


class TextFile:
    """A file with one text."""

    written = None

    def __init__(self, content: bytes | None) -> None:
        try:
            text = (content or b"").decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise CaptionerError("is not UTF-8 text; save it as UTF-8, or move it away") from None
        self._content = content
        self.texts = {SLOT: text} if text else {}

    def with_texts(self, texts: Mapping[str, str | None], captions: Mapping[str, Captioned]) -> bytes | None:
        """Return the content with another text; None deletes the file."""
        if SLOT not in texts:
            return self._content
        text = texts[SLOT]
        return None if text is None else f"{' '.join(text.split())}\n".encode()


def target(picture: Path, form: str) -> Target:
    """Open the file of an image."""
    return Target(form, picture.with_suffix(f".{form}"), {SLOT: picture}, TextFile)
