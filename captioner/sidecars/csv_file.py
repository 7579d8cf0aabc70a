"""Captions in ``captions.csv``: file_name, text, confidence, log_probability."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.sidecars.policy import Captioned
from captioner.sidecars.tables import CONFIDENCE, FILE_NAME, LOG_PROBABILITY, TEXT, Table

FORM = "csv"
FILE = "captions.csv"
_COLUMNS = (FILE_NAME, TEXT, CONFIDENCE, LOG_PROBABILITY)


class Records:
    """CSV records with a header; unchanged records keep their bytes."""

    written = None

    def __init__(self, content: bytes | None) -> None:
        try:
            text = (content or b"").decode()
        except UnicodeDecodeError:
            raise CaptionerError("is not UTF-8 text; save it as UTF-8, or move it away") from None
        self._mark = "\ufeff" if text.startswith("\ufeff") else ""
        text = text[len(self._mark) :]
        self._end = "\r\n" if "\r\n" in text else "\n"
        self._header, self._columns = "", list(_COLUMNS)
        self._records: list[str] = []
        self._rows: dict[str, tuple[int, list[str]]] = {}
        for number, (raw, cells) in enumerate(_records(text)):
            if number == 0:
                self._header, self._columns = raw, cells
                if FILE_NAME not in cells or TEXT not in cells:
                    raise CaptionerError(f"has no columns {FILE_NAME} and {TEXT}; move the file away")
                continue
            self._records.append(raw)
            if cells:
                cells += [""] * (len(self._columns) - len(cells))
                self._rows.setdefault(cells[self._columns.index(FILE_NAME)], (number - 1, cells))
        place = self._columns.index(TEXT)
        self.texts = {name: cells[place] for name, (_, cells) in self._rows.items()}

    def with_texts(self, texts: Mapping[str, str | None], captions: Mapping[str, Captioned]) -> bytes | None:
        """Return the records with other texts; None if none is left."""
        records: list[str | None] = list(self._records)
        for name, text in texts.items():
            number, cells = self._rows.get(name, (None, [""] * len(self._columns)))
            record = None if text is None else self._record(cells, name, text, captions.get(name))
            if number is None:
                records.append(record)
            else:
                records[number] = record
        left = [record for record in records if record is not None]
        if not left:
            return None
        header = self._header or self._written(list(_COLUMNS))
        lines = [header, *left]
        whole = [line if line.endswith(("\n", "\r")) else line + self._end for line in lines]
        return (self._mark + "".join(whole)).encode()

    def _record(self, cells: list[str], name: str, text: str, caption: Captioned | None) -> str:
        values = {FILE_NAME: name, TEXT: text}
        if caption is not None:
            confidence = "" if caption.confidence is None else f"{caption.confidence:.4f}"
            values |= {CONFIDENCE: confidence, LOG_PROBABILITY: f"{caption.log_probability:.4f}"}
        pairs = zip(self._columns, cells, strict=False)
        return self._written([values.get(column, cell) for column, cell in pairs] + cells[len(self._columns) :])

    def _written(self, cells: Sequence[str]) -> str:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator=self._end).writerow(cells)
        return buffer.getvalue()


def target(folder: Path, pictures: Sequence[Path]) -> Table:
    """Open the file of a folder."""
    return Table(FORM, folder / FILE, pictures, Records)


def _records(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each record's text and cells."""
    lines: list[str] = []

    def feed() -> Iterator[str]:
        for line in io.StringIO(text, newline=""):
            lines.append(line)
            yield line

    try:
        for cells in csv.reader(feed(), strict=True):
            yield "".join(lines), cells
            lines.clear()
    except csv.Error as error:
        raise CaptionerError(f"is not valid CSV: {error}; fix it, or move it away") from None
