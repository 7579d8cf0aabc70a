"""Shared by JSON lines, CSV and COCO: captions of a folder's images in one file.

Images are named by their path relative to the file's folder, with slashes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from captioner.sidecars.manifest import Entry
from captioner.sidecars.targets import Document, Parse, Target

FILE_NAME, TEXT, LOG_PROBABILITY, CONFIDENCE = "file_name", "text", "log_probability", "confidence"


class Table(Target):
    """A file with a row for each image of a folder."""

    def __init__(self, form: str, path: Path, pictures: Iterable[Path], parse: Parse) -> None:
        names = {os.path.relpath(picture, path.parent).replace(os.sep, "/"): picture for picture in pictures}
        super().__init__(form, path, names, parse, is_shared=True)

    def _gone(self, document: Document, entry: Entry | None) -> list[str]:
        """Our rows of deleted images, which readers would search."""
        rows = entry["slots"] if entry else {}
        return [
            name
            for name, row in rows.items()
            if document.texts.get(name) == row["text"]
            and name not in self.pictures
            and not os.path.lexists(self.path.parent / name)
        ]
