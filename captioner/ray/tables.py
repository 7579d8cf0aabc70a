"""Parquet files whose rows hold pictures, as bytes or as paths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from captioner.data.entries import find_columns
from captioner.errors import CaptionerError
from captioner.ray.addresses import file_system, readable

RESERVED = ("image", "caption", "log_probability", "confidence", "error", "captions")
"""Columns of the output."""

_BATCH = 64
"""Rows that are read at a time."""


class Table:
    """An opened Parquet file.

    Args:
        address: Its path or address.
        column: The column of the pictures; None for the only one of bytes, or else the one whose name says so.
        keep: Further columns to read.

    Attributes:
        address: Its path or address.
        group_sizes: The rows of each row group.
        holds_bytes: Whether the pictures are in it, not paths to them.
        kept: The fields of the further columns.

    Raises:
        CaptionerError: It cannot be read, or lacks a column.
    """

    def __init__(self, address: str, column: str | None, keep: Sequence[str]) -> None:
        self.address = address
        with readable(address):
            system, path = file_system(address)
            with system.open(path, "rb") as file:
                metadata = pq.ParquetFile(file).metadata
                schema = metadata.schema.to_arrow_schema()
        self.group_sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        self._column = _find_column(schema, address, column)
        self.holds_bytes = _has_bytes(schema.field(self._column).type)
        for name in keep:
            if name not in schema.names or name in RESERVED:
                why = "is a column of the captions" if name in RESERVED else f"is none of {', '.join(schema.names)}"
                raise CaptionerError(f"{address}: column {name!r} {why}, and cannot be kept; choose others", "keep")
        self.kept = [schema.field(name) for name in keep]

    def rows(self, first: int, count: int) -> Iterator[tuple[int, Any, dict[str, Any]]]:
        """Read rows.

        Args:
            first: Number of the first row.
            count: How many.

        Yields:
            For each row its number, its picture as it is in the table, and the further columns.

        Raises:
            CaptionerError: It cannot be read.
        """
        names = [self._column, *(field.name for field in self.kept)]
        groups, number = self._groups_of(first, count)
        with readable(self.address):
            system, path = file_system(self.address)
            with system.open(path, "rb") as file:
                for batch in pq.ParquetFile(file).iter_batches(_BATCH, row_groups=groups, columns=names):
                    begin, end = max(0, first - number), min(batch.num_rows, first + count - number)
                    for index, row in enumerate(batch.slice(begin, max(0, end - begin)).to_pylist(), number + begin):
                        picture = row[self._column]
                        yield index, picture, {field.name: row[field.name] for field in self.kept}
                    number += batch.num_rows

    def _groups_of(self, first: int, count: int) -> tuple[list[int], int]:
        """The row groups that rows lie in, and the number of these groups' first row."""
        groups: list[int] = []
        start, begin = 0, 0
        for number, size in enumerate(self.group_sizes):
            if begin < first + count and begin + size > first:
                start = start if groups else begin
                groups.append(number)
            begin += size
        return groups, start


def _find_column(schema: pa.Schema, address: str, wanted: str | None) -> str:
    names = schema.names
    if wanted is None:
        with_bytes = [field.name for field in schema if _has_bytes(field.type)]
        wanted = with_bytes[0] if len(with_bytes) == 1 else find_columns(tuple(names)).image
    if wanted is None:
        raise CaptionerError(
            f"{address}: which of {', '.join(names)} holds the pictures is unclear; set column", "column"
        )
    if wanted not in names:
        raise CaptionerError(f"{address}: has no column {wanted!r} among {', '.join(names)}; check column", "column")
    kind = schema.field(wanted).type
    if not (_has_bytes(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise CaptionerError(
            f"{address}: column {wanted!r} holds {kind}, neither bytes nor paths; check column", "column"
        )
    return wanted


def _has_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
