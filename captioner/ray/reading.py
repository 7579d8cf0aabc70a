"""The pictures of a shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from captioner.data.folders import is_picture
from captioner.data.images import NamedBytes
from captioner.errors import CaptionerError
from captioner.ray.addresses import absolute, folder_of, local_copy, readable
from captioner.ray.batch import Source, source_of
from captioner.ray.inputs import Shard
from captioner.ray.tables import Table
from captioner.utils.caching import disabled
from captioner.utils.tar_files import Part, members


class Picture(NamedTuple):
    """A picture of a shard.

    Attributes:
        name: Its path or address; of one in a tar shard or a Parquet file, that of the file with the member's name or
            the row's number behind it.
        source: The picture, or why there is none.
        kept: Further columns of its row.
    """

    name: str
    source: Source
    kept: Mapping[str, Any] = MappingProxyType({})


def read_shard(shard: Shard, table: Table | None) -> Iterator[Picture]:
    """Read the pictures of a shard, one after the other.

    Args:
        shard: The shard.
        table: The Parquet file of its rows; None for a shard without.

    Raises:
        CaptionerError: The shard cannot be read now; that it is damaged is told as a picture's error.
    """
    if table is not None:
        for number, cell, kept in table.rows(shard["first"], shard["count"]):
            name = f"{table.address}/{number}"
            yield _of_table(name, cell, kept, folder_of(table.address))
    elif "tar" in shard:
        yield from _of_tar(shard["tar"])
    else:
        for name in shard["pictures"]:
            yield Picture(name, name)


def _of_table(name: str, cell: Any, kept: dict[str, Any], folder: str) -> Picture:  # noqa: ANN401 (a cell of a table)
    source = source_of(cell)
    if isinstance(source, str):
        address = absolute(source, folder)
        return Picture(address, address, kept)
    return Picture(name, _named(source, name) if isinstance(source, bytes) else source, kept)


def _of_tar(address: str) -> Iterator[Picture]:
    with local_copy(address) as file:
        with readable(address):
            file.stat()
        try:
            with disabled():  # a shard is read once: what it holds need not be remembered
                found = members(file)
        except CaptionerError as error:
            yield Picture(address, CaptionerError(str(error).replace(str(file), address)))
            return
        for member, part in found.items():
            if is_picture(member):
                name = f"{address}/{member}"
                yield Picture(name, _content(part, name))


def _content(part: Part, name: str) -> Source:
    try:
        return _named(part.read(), name)
    except OSError as error:
        return CaptionerError(f"{name}: cannot be read: {error.strerror or error}")


def _named(content: bytes, name: str) -> NamedBytes:
    named = NamedBytes(content)
    named.name = name
    return named
