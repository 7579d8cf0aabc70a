"""The output of a job: a file for each shard, which is there once the shard is done."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from captioner.ray.addresses import TEMPORARY, file_system, join, list_names, read_bytes, readable, remove, writing

FORMS = ("parquet", "jsonl")
_CAPTION = (("caption", pa.string()), ("log_probability", pa.float64()), ("confidence", pa.float64()))


class Parts:
    """The parts in a folder.

    Args:
        folder: Its path or address.
        form: ``parquet`` or ``jsonl``.
    """

    def __init__(self, folder: str, form: str) -> None:
        self.folder = folder
        self.form = form

    def done(self) -> set[int]:
        """Numbers of the shards whose parts are there.

        Raises:
            CaptionerError: The folder cannot be listed.
        """
        found = (re.fullmatch(rf"part-(\d+)\.{self.form}", name) for name in list_names(self.folder))
        return {int(match[1]) for match in found if match}

    def all_names(self) -> list[str]:
        """Names of the parts that are there, also of those of the other form.

        Raises:
            CaptionerError: The folder cannot be listed.
        """
        pattern = re.compile(rf"part-\d+\.({'|'.join(FORMS)})")
        return [name for name in list_names(self.folder) if pattern.fullmatch(name)]

    def write(self, number: int, rows: Sequence[Mapping[str, Any]], several: bool, kept: Sequence[pa.Field]) -> None:
        """Write the part of a shard.

        Args:
            number: The shard's.
            rows: What `captioner.caption.describe` tells of each picture, with the kept columns.
            several: Whether several captions were asked for.
            kept: The kept columns.

        Raises:
            CaptionerError: It cannot be written; there is nothing then.
        """
        content = _as_parquet(rows, several, kept) if self.form == "parquet" else _as_json_lines(rows)
        with writing(self._address(number)) as file:
            file.write(content)

    def counts(self, number: int) -> tuple[int, int] | None:
        """Count the pictures of a part, and those with an error; None where there is no part.

        Raises:
            CaptionerError: It cannot be read.
        """
        address = self._address(number)
        with readable(address):
            system, path = file_system(address)
            if not system.exists(path):
                return None
            content = read_bytes(address)
            if self.form == "parquet":
                errors = pq.read_table(io.BytesIO(content), columns=["error"])["error"]
                return len(errors), len(errors) - errors.null_count
            lines = content.splitlines()
            return len(lines), sum("error" in json.loads(line) for line in lines)

    def clean(self) -> None:
        """Remove what processes that were killed have left; call it when none writes any more.

        Raises:
            CaptionerError: A file cannot be removed.
        """
        names = list_names(self.folder)
        remove(self.folder, [name for name in names if name.startswith(".part-") and name.endswith(TEMPORARY)])

    def remove(self) -> None:
        """Remove all parts, also those of the other form.

        Raises:
            CaptionerError: One cannot be removed.
        """
        remove(self.folder, self.all_names())

    def _address(self, number: int) -> str:
        return join(self.folder, f"part-{number:06d}.{self.form}")


def _as_parquet(rows: Sequence[Mapping[str, Any]], several: bool, kept: Sequence[pa.Field]) -> bytes:
    fields = [pa.field("image", pa.string()), *(pa.field(*each) for each in _CAPTION), pa.field("error", pa.string())]
    if several:
        fields.append(pa.field("captions", pa.list_(pa.struct(_CAPTION))))
    # A name of bytes that are no UTF-8 stands in messages as well.
    told = [{**row, **{name: _utf_8(row[name]) for name in ("image", "error") if name in row}} for row in rows]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(told, pa.schema([*fields, *kept])), buffer)
    return buffer.getvalue()


def _utf_8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _as_json_lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    # Parquet has values that JSON lacks, such as dates.
    return b"".join(json.dumps(row, default=str).encode() + b"\n" for row in rows)
