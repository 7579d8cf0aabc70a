"""Captions in ``metadata.jsonl``, as Hugging Face's imagefolder reads them: ``{"file_name": …, "text": …}`` a line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captioner.errors import CaptionerError
from captioner.sidecars.policy import Captioned
from captioner.sidecars.tables import CONFIDENCE, FILE_NAME, TEXT, Table

FORM = "metadata.jsonl"
_OTHERS = ("metadata.csv", "metadata.parquet")


class Lines:
    """JSON lines; unchanged lines keep their bytes."""

    written = None

    def __init__(self, content: bytes | None) -> None:
        self._is_new = content is None
        try:
            text = (content or b"").decode()
        except UnicodeDecodeError:
            raise CaptionerError("is not UTF-8 text; save it as UTF-8, or move it away") from None
        self._lines = [line for line in text.split("\n") if line.strip()]
        self._rows: dict[str, tuple[int, dict[str, Any]]] = {}
        for number, line in enumerate(self._lines):
            row = _parsed(line, number + 1)
            self._rows.setdefault(row[FILE_NAME], (number, row))
        self.texts = {name: row[TEXT] for name, (_, row) in self._rows.items() if isinstance(row.get(TEXT), str)}

    def with_texts(self, texts: Mapping[str, str | None], captions: Mapping[str, Captioned]) -> bytes | None:
        """Return the lines with other texts; None if none is left."""
        lines: list[str | None] = list(self._lines)
        for name, text in texts.items():
            number, row = self._rows.get(name, (None, {FILE_NAME: name}))
            facts: dict[str, Any] = {TEXT: text}
            if name in captions and captions[name].confidence is not None:
                facts[CONFIDENCE] = captions[name].confidence
            line = None if text is None else json.dumps(row | facts, ensure_ascii=False)
            if number is None:
                lines.append(line)
            else:
                lines[number] = line
        left = [line for line in lines if line is not None]
        return "".join(f"{line}\n" for line in left).encode() if left else None


def target(folder: Path, pictures: Sequence[Path]) -> Table:
    """Open the file of a folder.

    Raises:
        CaptionerError: There is another metadata file, so that imagefolder would refuse both.
    """
    for other in _OTHERS:
        if (folder / other).exists():
            raise CaptionerError(f"{folder / other}: imagefolder reads one kind of metadata file; move it away first")
    return Table(FORM, folder / FORM, pictures, Lines)


def _parsed(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or not isinstance(row.get(FILE_NAME), str):
        raise CaptionerError(f'line {number} is not a JSON object with a "{FILE_NAME}"; fix it, or move the file away')
    return row
