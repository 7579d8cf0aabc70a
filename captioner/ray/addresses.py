"""Files on this machine and elsewhere: paths, and addresses that fsspec opens, such as ``s3://bucket/pictures``."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from captioner.errors import CaptionerError, first_line
from captioner.utils.files import replacing

TEMPORARY = ".part"
"""How files end that are being written; they begin with a dot."""

_LOCAL = "file://"


def is_remote(address: str) -> bool:
    """Whether something is an address rather than a path of this machine."""
    return "://" in address


def absolute(address: str, folder: str = "") -> str:
    """Make a path independent of the working folder, which is another one in each process of a cluster.

    Args:
        address: A path, or an address, which is returned as it is.
        folder: The path or address that a path is relative to; by default the working folder.
    """
    address = address.removeprefix(_LOCAL)
    if is_remote(address):
        return address
    if is_remote(folder):
        return address if os.path.isabs(address) else f"{folder.rstrip('/')}/{address}"
    return os.path.abspath(os.path.join(folder, address))


def folder_of(address: str) -> str:
    """The folder of a file."""
    return address.rpartition("/")[0]


def file_system(address: str) -> tuple[Any, str]:
    """Find what opens an address.

    Returns:
        fsspec's file system, and the path in it.

    Raises:
        CaptionerError: The protocol is unknown, or needs a package that is not installed.
    """
    import fsspec

    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise CaptionerError(f"{address}: cannot be opened ({first_line(error)}); check the address") from error
    return found


def with_protocol(system: Any, path: str, like: str) -> str:  # noqa: ANN401 (fsspec is not typed)
    """The address of a path in a file system; a path of this machine stays one."""
    return str(system.unstrip_protocol(path)) if is_remote(like) else path


def read_bytes(address: str) -> bytes:
    """Read a whole file.

    Raises:
        CaptionerError: It cannot be read.
    """
    with readable(address):
        system, path = file_system(address)
        content: bytes = system.cat_file(path)
        return content


@contextlib.contextmanager
def readable(address: str) -> Iterator[None]:
    """Tell errors of reading a file in one line; what storages raise beside `OSError` shares no base."""
    try:
        yield
    except CaptionerError:
        raise
    except FileNotFoundError as error:
        raise CaptionerError(f"{address}: no such file; check the address") from error
    except Exception as error:
        raise CaptionerError(f"{address}: cannot be read: {first_line(error)}") from error


@contextlib.contextmanager
def local_copy(address: str) -> Iterator[Path]:
    """A file of this machine with the content of an address: the file itself, or a copy that is removed afterwards.

    Raises:
        CaptionerError: It cannot be read.
    """
    if not is_remote(address):
        yield Path(address)
        return
    with tempfile.TemporaryDirectory(prefix="captioner-") as folder:
        copy = Path(folder, "copy.tar")
        with readable(address):
            system, path = file_system(address)
            system.get_file(path, str(copy))
        yield copy


def join(folder: str, name: str) -> str:
    """The address of a file in a folder."""
    return f"{folder.rstrip('/')}/{name}"


def list_names(folder: str) -> list[str]:
    """Names of the files in a folder; none where there is no folder.

    Raises:
        CaptionerError: It cannot be listed.
    """
    with readable(folder):
        system, path = file_system(folder)
        system.invalidate_cache()  # other processes write into it
        try:
            return [os.path.basename(name.rstrip("/")) for name in system.ls(path, detail=False)]
        except FileNotFoundError:
            return []


@contextlib.contextmanager
def writing(address: str) -> Iterator[BinaryIO]:
    """Write a file as a whole: whatever happens, there is either all of it or none.

    Raises:
        CaptionerError: It cannot be written.
    """
    if not is_remote(address):
        with replacing(address) as temporary, temporary.open("wb") as file:
            yield file
        return
    system, path = file_system(address)
    # Not every storage shows a file only once it is complete, but each renames one.
    folder, _, name = path.rpartition("/")
    waiting = f"{folder}/.{name}.{uuid.uuid4().hex}{TEMPORARY}"
    try:
        system.makedirs(folder, exist_ok=True)
        with system.open(waiting, "wb") as file:
            yield file
        system.mv(waiting, path)
    except CaptionerError:
        raise
    except Exception as error:  # what storages raise shares no base
        raise CaptionerError(f"cannot write {address}: {first_line(error)}; choose another place") from error


def remove(folder: str, names: list[str]) -> None:
    """Remove files of a folder.

    Raises:
        CaptionerError: One cannot be removed.
    """
    system, path = file_system(folder)
    try:
        for name in names:
            system.rm_file(f"{path}/{name}")
    except OSError as error:
        raise CaptionerError(f"{folder}: {name} cannot be removed: {error.strerror or error}") from error
