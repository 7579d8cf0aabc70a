"""Atomic writing of files."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from captioner.errors import CaptionerError

TEMPORARY_NAME_PART = 40
"""Characters of a file's name that its temporary name contains: that must not exceed the limit of names either."""


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Replace a file atomically: yield the path of a temporary file, which replaces ``path`` at the end of the block.

    The file is synced before it is renamed, so that a crash leaves either the old file or the new one. If the block
    raises, the temporary file is removed and ``path`` is unchanged.

    Args:
        path: The file to write. A missing folder is created, a link is followed, and a file that is replaced keeps its
            permissions.

    Raises:
        CaptionerError: The folder cannot be created or written to, the disk is full, or ``path`` is a folder or a
            device.
    """
    target = Path(os.path.realpath(path))
    temporary: Path | None = None
    try:
        before = refuse_to_follow(target, path)
        if before is None:
            target.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{target.name[:TEMPORARY_NAME_PART]}."
        descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=".part", dir=target.parent)
        temporary = Path(name)
        os.close(descriptor)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask() if before is None else stat.S_IMODE(before.st_mode))
        temporary.replace(target)
        temporary = None
    except OSError as error:
        raise CaptionerError(f"cannot write {path}: {error.strerror or error}; choose another place") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def regular_size(path: Path) -> int:
    """The bytes of a file that can be opened: a pipe would be waited for, and a device has no end.

    Raises:
        CaptionerError: It is not a regular file.
        OSError: It is not there, or cannot be looked at.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise CaptionerError(f"{path}: is not a regular file; move it away")
    return status.st_size


def refuse_to_follow(target: Path, name: str | os.PathLike[str]) -> os.stat_result | None:
    """Refuse a target that must not be replaced.

    Args:
        target: The file to be replaced, if it exists.
        name: Its name in messages.

    Returns:
        The target's status; None if it does not exist.

    Raises:
        CaptionerError: It is not a regular file, or standard output or standard error are redirected to it.
    """
    try:
        status = target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        # Renaming over /dev/null would replace it by a file, for every program on the machine.
        raise CaptionerError(f"cannot write {name}: it is not a regular file; choose another place")
    for stream, number in (("output", 1), ("error", 2)):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(number), status):
                raise CaptionerError(f"cannot write {name}: standard {stream} goes there already; choose another place")
    return status


def refuse_unwritable(path: str | os.PathLike[str]) -> None:
    """Check in advance, before long work, that `replacing` can write a file.

    Raises:
        CaptionerError: As for `replacing`.
    """
    with contextlib.suppress(_EnoughError), replacing(path):
        raise _EnoughError


class _EnoughError(Exception):
    """Leaves the block of `replacing` without replacing the file."""


def _umask() -> int:
    # The only way to read the umask is to set it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
