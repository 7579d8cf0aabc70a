"""A crash-safe JSON lines file.

Each line is one JSON object, written by one call and not changed later. A killed program leaves complete lines and at
most one partial line, which is removed when the file is reopened.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from captioner.errors import CaptionerError
from captioner.utils.files import refuse_to_follow, replacing

_LINE_START = b'{"image": '
_SYNC_SECONDS = 1.0


class Journal:
    """Appends JSON objects, one per line; a context manager.

    Args:
        path: The file. A missing folder is created.
        resume: Whether to append to existing lines. Otherwise the file is replaced, once the first new line has been
            written.

    Attributes:
        entries: The objects that the file holds, in order.

    Raises:
        CaptionerError: The file cannot be written, is being written by another process, or has another format.
    """

    def __init__(self, path: str | os.PathLike[str], resume: bool = False) -> None:
        self.path = Path(path)
        self.entries: list[dict[str, Any]] = []
        self._files = ExitStack()
        self._replacement = ExitStack()
        self._synced = time.monotonic()
        try:
            self._begin(resume)
        except OSError as error:
            self.__exit__(type(error), error, None)
            raise CaptionerError(f"cannot write {path}: {error.strerror or error}; choose another place") from error
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._files:
            self._replacement.__exit__(kind, error, traceback)

    def append(self, entry: dict[str, Any]) -> None:
        """Write one object; the line is in the file when the call returns.

        Raises:
            CaptionerError: It cannot be written; the file is unchanged.
        """
        try:
            self._write(_line(entry))
        except OSError as error:
            raise CaptionerError(
                f"cannot write {self.path}: {error.strerror or error}; {len(self.entries)} lines are safe in it, make "
                "room and go on with --resume"
            ) from error
        self.entries.append(entry)
        # Keep the file from now on: the first line could be written.
        self._replacement.close()

    def drop(self, indices: Iterable[int]) -> None:
        """Remove entries from the file, atomically.

        Args:
            indices: Their indices in ``entries``.

        Raises:
            CaptionerError: The file cannot be written; it is unchanged.
        """
        gone = set(indices)
        if not gone:
            return
        self.entries = [entry for index, entry in enumerate(self.entries) if index not in gone]
        with replacing(self.path) as temporary:
            temporary.write_bytes(b"".join(map(_line, self.entries)))
        self._open(self.path)

    def _begin(self, resume: bool) -> None:
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open(self.path, os.O_CREAT)
            self._replacement.push(self._remove)
            return
        refuse_to_follow(self.path, self.path)
        self._open(self.path)
        if resume:
            self._repair()
        else:
            self._open(self._replacement.enter_context(replacing(self.path)))

    def _open(self, path: Path, flags: int = 0) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | flags, 0o666)
        self._files.callback(os.close, self._file)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CaptionerError(f"{self.path}: another captioner is writing it; wait until it has ended") from None

    def _remove(self, kind: type[BaseException] | None, *_: object) -> None:
        # After Ctrl-C, a line that has been written is complete and kept.
        if kind is not None and not os.fstat(self._file).st_size:
            self.path.unlink(missing_ok=True)

    def _repair(self) -> None:
        content = self.path.read_bytes()
        end = content.rfind(b"\n") + 1
        whole, torn = content[:end], content[end:]
        # Some file systems leave zeros instead of a line after a power failure.
        if not (torn.startswith(_LINE_START) or _LINE_START.startswith(torn) or not torn.strip(b"\0")):
            raise CaptionerError(f"{self.path}: was not written by captioner caption --output; name another file")
        self.entries = [self._parse(line, number) for number, line in enumerate(whole.split(b"\n")[:-1], start=1)]
        os.ftruncate(self._file, len(whole))

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
            raise CaptionerError(
                f"{self.path}: line {number} was not written by captioner caption --output; name another file"
            )
        return entry

    def _write(self, line: bytes) -> None:
        before = os.fstat(self._file).st_size
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except BaseException:
            os.ftruncate(self._file, before)
            raise
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            os.fsync(self._file)
            self._synced = time.monotonic()


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"
