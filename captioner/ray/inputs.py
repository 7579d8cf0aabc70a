"""What is to be captioned, divided into shards: the units that are captioned, written and resumed as a whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

from captioner.data.folders import find_images, is_picture
from captioner.errors import CaptionerError
from captioner.ray.addresses import absolute, file_system, folder_of, is_remote, readable, with_protocol
from captioner.ray.tables import Table

LIST, TAR, TABLE = ".txt", ".tar", ".parquet"
_FOOTERS = 16
"""Parquet files whose footers are read at the same time, since most time is spent waiting."""

Shard: TypeAlias = dict[str, Any]
"""A line of the plan: ``pictures`` with their addresses, a ``tar``, or a ``table`` with its rows ``first`` and
``count``."""


@dataclass(frozen=True)
class Wish:
    """What is to be captioned.

    Attributes:
        inputs: Paths or addresses of pictures, folders, lists (text files, a path or address a line), tar shards and
            Parquet files; absolute.
        shard_size: Pictures of a shard, where the input does not divide them.
        column: The column of the pictures in Parquet files; None for the one of bytes, or else of paths.
        keep: Columns of Parquet files to copy.
    """

    inputs: tuple[str, ...]
    shard_size: int
    column: str | None = None
    keep: tuple[str, ...] = ()


def shards(wish: Wish) -> Iterator[Shard]:
    """Divide all inputs into shards, in their order; no more than a shard and a folder's names are held in memory.

    Raises:
        CaptionerError: An input cannot be listed, a list cannot be read, or a Parquet file lacks a column.
    """
    pictures: list[str] = []
    for found in _with_tables_opened(_files(wish.inputs), wish):
        if isinstance(found, Table):
            yield from _shards_of_table(found, wish.shard_size)
        elif found.lower().endswith(TAR):
            yield {"tar": found}
        else:
            pictures.append(found)
            if len(pictures) == wish.shard_size:
                yield {"pictures": pictures}
                pictures = []
    if pictures:
        yield {"pictures": pictures}


def _files(inputs: Iterable[str]) -> Iterator[str]:
    for address in inputs:
        if address.lower().endswith(LIST):
            yield from _listed(address)
        else:
            yield from _below(address)


def _listed(address: str) -> Iterator[str]:
    """What a list names, without what names nothing: it may be larger than the memory."""
    with readable(address):
        system, path = file_system(address)
        with system.open(path, "r", encoding="utf-8-sig") as lines:
            for line in lines:
                if name := line.rstrip("\r\n"):
                    yield absolute(name, folder_of(address))


def _below(address: str) -> Iterator[str]:
    """A file itself, or the pictures, tar shards and Parquet files in a folder."""
    if not is_remote(address):
        yield from map(os.fspath, find_images(address, others=(TAR, TABLE)))
        return
    with readable(address):
        system, path = file_system(address)
        if "*" in path:
            names: Iterable[str] = sorted(system.glob(path))
            if not names:
                raise CaptionerError(f"{address}: no such file; check the address")
        elif _is_wanted(path):
            yield address
            return
        else:
            names = _walk(system, path)
        for name in names:
            yield with_protocol(system, name, address)


def _walk(system: Any, top: str) -> Iterator[str]:  # noqa: ANN401 (fsspec is not typed)
    """The files below a folder; fsspec's own walk leaves out folders that cannot be listed, and keeps all listings."""
    waiting = [top.rstrip("/")]
    while waiting:
        folder = waiting.pop()
        entries = {entry["name"].rstrip("/"): entry["type"] for entry in system.ls(folder, detail=True)}
        system.invalidate_cache(folder)
        below = [name for name in sorted(entries) if name != folder and not os.path.basename(name).startswith(".")]
        yield from (name for name in below if entries[name] != "directory" and _is_wanted(name))
        waiting += [name for name in reversed(below) if entries[name] == "directory"]


def _is_wanted(name: str) -> bool:
    return is_picture(name) or name.lower().endswith((TAR, TABLE))


def _with_tables_opened(files: Iterable[str], wish: Wish) -> Iterator[str | Table]:
    """Open the Parquet files, several at a time."""
    remaining = iter(files)
    with ThreadPoolExecutor(_FOOTERS) as threads:
        while some := list(islice(remaining, 4 * _FOOTERS)):
            yield from threads.map(_opener(wish), some)


def _opener(wish: Wish) -> Callable[[str], str | Table]:
    return lambda file: Table(file, wish.column, wish.keep) if file.lower().endswith(TABLE) else file


def _shards_of_table(table: Table, size: int) -> Iterator[Shard]:
    """Divide a Parquet file between its row groups; paths, which are read quickly, also within them."""
    first, waiting = 0, 0
    for count in table.group_sizes:
        waiting += count
        while waiting >= size:
            part = waiting if table.holds_bytes else size
            yield {"table": table.address, "first": first, "count": part}
            first, waiting = first + part, waiting - part
    if waiting:
        yield {"table": table.address, "first": first, "count": waiting}
