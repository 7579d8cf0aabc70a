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

    If the block raises, the temporary file is removed and ``path`` is unchanged.

    Args:
        path: As for `Replacement`.

    Raises:
        CaptionerError: As for `Replacement`.
    """
    new = Replacement(path)
    with new.writing() as temporary:
        yield temporary
    new.finish()


class Replacement:
    """A temporary file that replaces another one atomically, in steps, so that many can take each step together.

    The file is synced before it is renamed, so that a crash leaves either the old file or the new one.

    Args:
        path: The file to write. A missing folder is created, a link is followed, and a file that is replaced keeps its
            permissions.

    Raises:
        CaptionerError: In any step, the folder cannot be created or written to, the disk is full, or ``path`` is a
            folder or a device.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._target = Path(os.path.realpath(path))
        with self._telling():
            self._before = refuse_to_follow(self._target, path)
            if self._before is None:
                self._target.parent.mkdir(parents=True, exist_ok=True)
            prefix = f".{self._target.name[:TEMPORARY_NAME_PART]}."
            descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=".part", dir=self._target.parent)
            self._temporary: Path | None = Path(name)
            os.close(descriptor)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Path]:
        """Yield the path of the temporary file, to be written to; if the block raises, it is removed."""
        assert self._temporary is not None
        try:
            with self._telling():
                yield self._temporary
                mode = 0o666 & ~_umask() if self._before is None else stat.S_IMODE(self._before.st_mode)
                self._temporary.chmod(mode)
        except BaseException:
            self.discard()
            raise

    @property
    def size(self) -> int:
        """Bytes of the temporary file."""
        return 0 if self._temporary is None else self._temporary.stat().st_size

    def sync(self) -> None:
        """Wait until the content is on the disk."""
        if self._temporary is None:
            return
        with self._telling(), self._temporary.open("rb") as file:
            os.fsync(file.fileno())

    def commit(self) -> None:
        """Take the place of the old file."""
        if self._temporary is None:
            return
        with self._telling():
            self._temporary.replace(self._target)
            self._temporary = None

    def finish(self) -> None:
        """Take the steps that are left; if one fails, the temporary file is removed."""
        try:
            self.sync()
            self.commit()
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove the temporary file, if it has not taken the place of the old one."""
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            told = f"cannot write {self._path}: {error.strerror or error}; choose another place"
            raise CaptionerError(told) from error


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
