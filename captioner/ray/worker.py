"""What an actor does with a shard: read its pictures, caption them, write its part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from captioner.errors import CaptionerError
from captioner.ray.batch import CaptionBatch
from captioner.ray.parts import Parts
from captioner.ray.plan import read_line
from captioner.ray.reading import Picture, read_shard
from captioner.ray.tables import Table

ATTEMPTS = 3
"""How often a shard is begun: one whose pictures kill each process that reads them would be begun for ever."""


@dataclass(frozen=True)
class Work:
    """What all actors of a job know.

    Attributes:
        parts: The output.
        captioner: Arguments of `CaptionBatch`.
        batch_size: Pictures that are captioned together.
        column: The column of the pictures in Parquet files, as in `Wish`.
        keep: Columns of Parquet files to copy.
    """

    parts: Parts
    captioner: Mapping[str, Any]
    batch_size: int
    column: str | None = None
    keep: tuple[str, ...] = ()


class CaptionShards:
    """Captions shards; loads the model once.

    Args:
        work: The job.
        begin: Called with a shard's number before it is captioned; returns how often it was begun, over all actors.
    """

    def __init__(self, work: Work, begin: Callable[[int], int]) -> None:
        self._work = work
        self._begin = begin
        self._captions = CaptionBatch(**work.captioner)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Caption the shards of a batch.

        Args:
            batch: Columns ``shard``, a number, and ``start`` and ``end``, where its line lies in the plan.

        Returns:
            For each shard the number of its ``pictures`` and of those with ``errors``, and a ``failure``, empty where
            its part was written.

        Raises:
            CaptionerError: A part cannot be written.
        """
        columns = (batch[name].tolist() for name in ("shard", "start", "end"))
        results = [self._caption(*place) for place in zip(*columns, strict=True)]
        pictures, errors, failures = map(list, zip(*results, strict=True))
        return {"pictures": pictures, "errors": errors, "failure": failures}

    def _caption(self, number: int, start: int, end: int) -> tuple[int, int, str]:
        parts = self._work.parts
        if (counts := parts.counts(number)) is not None:  # of an actor that died after it
            return *counts, ""
        try:
            shard = read_line(parts.folder, start, end)
            if self._begin(number) > ATTEMPTS:
                name = shard.get("table") or shard.get("tar") or f"{shard['pictures'][0]} and those after it"
                raise CaptionerError(f"{name}: ended {ATTEMPTS} processes that read it, perhaps for want of memory")
            table = Table(shard["table"], self._work.column, self._work.keep) if "table" in shard else None
            rows = self._rows(read_shard(shard, table))
        except CaptionerError as error:
            return 0, 0, str(error)
        parts.write(number, rows, self._captions.options.num_captions > 1, table.kept if table else ())
        return len(rows), sum("error" in row for row in rows), ""

    def _rows(self, pictures: Iterator[Picture]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while some := list(islice(pictures, self._work.batch_size)):
            captions = self._captions.caption([picture.source for picture in some])
            rows += (
                {**picture.kept, **self._captions.describe(picture.name, caption)}
                for picture, caption in zip(some, captions, strict=True)
            )
        return rows
