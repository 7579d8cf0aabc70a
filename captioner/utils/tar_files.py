"""Files inside uncompressed tar files, addressed as if the tar file were a folder: ``shards/000000.tar/0001.jpg``."""

from __future__ import annotations

import os
import tarfile
import threading
from collections.abc import Mapping
from typing import NamedTuple

from captioner.errors import CaptionerError
from captioner.utils.caching import memoized

END = ".tar"
_MOST_INDEXES = 1024
"""Tar files whose members are remembered: each takes some 200 bytes a member."""

_READING = threading.Lock()
"""Held while a tar file is listed: threads that read its members would all list it at once."""


class Part(NamedTuple):
    """A part of a file.

    Attributes:
        file: The file.
        start: Its first byte.
        size: How many bytes it has.
    """

    file: str
    start: int
    size: int

    def read(self) -> bytes:
        """Return the bytes.

        Raises:
            OSError: The file cannot be read.
        """
        with open(self.file, "rb", buffering=0) as file:
            content = os.pread(file.fileno(), self.size, self.start)
        if len(content) < self.size:
            raise OSError(f"{self.file} was cut")
        return content


def is_tar(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of a tar file."""
    return os.fspath(path).lower().endswith(END) and os.path.isfile(path)


def split_path(path: str | os.PathLike[str]) -> tuple[str, str] | None:
    """Split a path into the tar file on it and what comes after; None without a tar file."""
    text = os.fspath(path)
    end = text.lower().find(END + os.sep)
    while end >= 0:
        file = text[: end + len(END)]
        if os.path.isfile(file):
            return file, text[len(file) + 1 :]
        end = text.lower().find(END + os.sep, end + 1)
    return None


def members(file: str | os.PathLike[str]) -> Mapping[str, Part]:
    """List the regular files in a tar file by their names, in its order; of several with one name the first.

    Names that would lead out of a folder are left out.

    Raises:
        CaptionerError: It cannot be read, is damaged, or is compressed.
    """
    try:
        status = os.stat(file)
        with _READING:
            return _members(os.fspath(file), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise CaptionerError(f"{file}: cannot be read: {error.strerror or error}") from error


def find_member(path: str | os.PathLike[str]) -> Part | None:
    """Find where the content of a path in a tar file lies; None for a path that is in none.

    Raises:
        CaptionerError: The tar file cannot be used.
        FileNotFoundError: It has no such member.
    """
    place = split_path(path)
    if place is None:
        return None
    file, name = place
    part = members(file).get(name)
    if part is None:
        raise FileNotFoundError(path)
    return part


def list_members(folder: str) -> frozenset[str] | None:
    """List the names of the files in a tar file, or in a folder in it; None for a path that is in none."""
    place = split_path(folder + os.sep)
    if place is None:
        return None
    file, below = place
    return frozenset(os.path.basename(name) for name in members(file) if os.path.dirname(name) == below.rstrip(os.sep))


@memoized(_MOST_INDEXES)
def _members(file: str, size: int, modified: int) -> Mapping[str, Part]:
    found: dict[str, Part] = {}
    try:
        with open(file, "rb") as content, tarfile.open(fileobj=content, mode="r:") as tar:
            while member := tar.next():
                tar.members.clear()  # type: ignore[attr-defined]  # else it keeps a kilobyte of each
                name = os.path.normpath(member.name)
                if member.isreg() and not member.issparse() and not name.startswith((os.pardir, os.sep)):
                    found.setdefault(name, Part(file, member.offset_data, member.size))
            # Of a header that it cannot read, tarfile says nothing: the rest would be lost in silence.
            if os.pread(content.fileno(), tarfile.BLOCKSIZE, tar.offset).strip(b"\0"):
                raise tarfile.ReadError(f"no header at byte {tar.offset:,}")
    except (tarfile.TarError, EOFError) as error:
        raise CaptionerError(
            f"{file}: is a damaged or compressed tar file ({error}); get a whole one, unpacked"
        ) from error
    return found
