"""Manifest of a folder: records what was written, to distinguish it from human text, to resume, and to undo.

Each target folder has a file ``.captioner.jsonl`` to which lines are appended: generated captions, and planned writes.
A line is synced before its file is replaced, so that after a crash each file is either unchanged or as described by its
line.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from captioner.errors import CaptionerError
from captioner.utils.files import TEMPORARY_NAME_PART, regular_size, replacing

NAME = ".captioner.jsonl"
_LINE_START = b'{"captioner": '
_TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.part")
"""Temporary names of `captioner.utils.files.replacing`."""
_LARGEST_ORIGINAL = 2**28
"""Maximum size of an unpacked original, since manifests may be untrusted."""

Entry: TypeAlias = dict[str, Any]
"""A line: generated captions have ``picture``; writes have ``form`` and ``file``."""


class BusyError(CaptionerError):
    """Another process is writing into the same folder."""


class Manifest:
    """The manifest of one folder.

    Attributes:
        folder: The folder.
        written: The latest entry by form and file name.
        versions: All entries by form, file name and digest of the content; a crashed process may not have written the
            latest.
        made: The latest caption of each image, by path relative to the folder.

    Raises:
        CaptionerError: It cannot be read, or is no manifest.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / NAME
        self.written: dict[tuple[str, str], Entry] = {}
        self.versions: dict[tuple[str, str, str], Entry] = {}
        self.made: dict[str, Entry] = {}
        self._file: int | None = None
        self._whole = 0
        try:
            regular_size(self.path)
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise CaptionerError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        *lines, torn = content.split(b"\n")
        if not (torn.startswith(_LINE_START) or _LINE_START.startswith(torn) or not torn.strip(b"\0")):
            raise self._damaged(len(lines) + 1)
        self._whole = len(content) - len(torn)
        for number, line in enumerate(lines, start=1):
            self._take(self._parsed(line, number))

    def open(self) -> None:
        """Lock the manifest for writing, until `close`.

        Raises:
            BusyError: Another process is writing into the folder.
            CaptionerError: The folder cannot be written to.
        """
        if self._file is not None:
            return
        try:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.open(self.path, flags, 0o666)
            _lock(self._file)
            os.ftruncate(self._file, self._whole)
            self._sweep()
        except BlockingIOError:
            self.close()
            raise BusyError(f"{self.folder}: another captioner is writing here; wait until it has ended") from None
        except OSError as error:
            self.close()
            raise CaptionerError(f"{self.folder}: cannot be written to: {error.strerror or error}") from error

    def append(self, entries: Iterable[Entry]) -> None:
        """Append entries, synced to disk.

        Raises:
            CaptionerError: They cannot be written; the manifest is unchanged.
        """
        entries = list(entries)
        with self.opened() as file:
            end = os.fstat(file).st_size
            try:
                rest = memoryview(b"".join(map(_line, entries)))
                while rest:
                    rest = rest[os.write(file, rest) :]
                os.fsync(file)
            except OSError as error:
                os.ftruncate(file, end)
                raise CaptionerError(f"cannot write {self.path}: {error.strerror or error}") from error
            self._whole = os.fstat(file).st_size
            for entry in entries:
                self._take(entry)

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """Lock the manifest temporarily, unless it is already locked; limits the number of open files.

        Raises:
            CaptionerError: As `open`.
        """
        is_open = self._file is not None
        self.open()
        assert self._file is not None
        try:
            yield self._file
        finally:
            if not is_open:
                self.close()

    def keep(self, entries: Iterable[Entry]) -> None:
        """Replace all entries; the file is deleted if none is left.

        Raises:
            CaptionerError: It cannot be written; the manifest is unchanged.
        """
        entries = list(entries)
        if entries:
            with replacing(self.path) as temporary:
                temporary.write_bytes(b"".join(map(_line, entries)))
        else:
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the lock; an empty manifest is deleted."""
        # Ctrl-C may come between any two steps; the attribute must never hold a closed descriptor.
        file, self._file = self._file, None
        if file is None:
            return
        try:
            if not os.fstat(file).st_size and not self.written and not self.made:
                self.path.unlink(missing_ok=True)
        finally:
            os.close(file)

    def _sweep(self) -> None:
        """Remove temporary files of a killed process."""
        starts = {name[:TEMPORARY_NAME_PART] for _, name in self.written} | {NAME}
        for name in os.listdir(self.folder):
            match = _TEMPORARY.fullmatch(name)
            if match and match.group(1) in starts:
                (self.folder / name).unlink(missing_ok=True)

    def _parsed(self, line: bytes, number: int) -> Entry:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict) or not _is_entry(entry):
            raise self._damaged(number)
        return entry

    def _damaged(self, number: int) -> CaptionerError:
        return CaptionerError(f"{self.path}: line {number} was not written by captioner; move the file away")

    def _take(self, entry: Entry) -> None:
        if "form" in entry:
            self.written[entry["form"], entry["file"]] = entry
            self.versions[entry["form"], entry["file"], entry["sha256"]] = entry
        else:
            self.made[entry["picture"]] = entry


class Manifests:
    """The manifests of all folders of a job, read on demand."""

    def __init__(self) -> None:
        self._of: dict[Path, Manifest] = {}
        self._versions: dict[tuple[str, str, str], Entry] = {}

    def of(self, folder: Path) -> Manifest:
        """The manifest of a folder.

        Raises:
            CaptionerError: It cannot be read, or is no manifest.
        """
        if folder not in self._of:
            self._of[folder] = manifest = Manifest(folder)
            self._versions |= manifest.versions
        return self._of[folder]

    def __iter__(self) -> Iterator[Manifest]:
        return iter(list(self._of.values()))

    def entry(self, form: str, path: Path, content: bytes | None) -> Entry | None:
        """Find the entry of a file: by name and content, in case it was moved, else by path."""
        manifest = self.of(path.parent)
        newest = manifest.written.get((form, path.name))
        if content is None:
            return newest
        version = (form, path.name, digest_of(content))
        return manifest.versions.get(version) or self._versions.get(version) or newest

    def close(self) -> None:
        """Close all."""
        for manifest in self:
            manifest.close()


def _lock(file: int) -> None:
    """Lock a file, if the file system supports it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise


def digest_of(content: bytes) -> str:
    """The SHA-256 digest of content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def pack(content: bytes | None) -> str | None:
    """Compress content to text, for an entry."""
    return None if content is None else base64.b85encode(zlib.compress(content)).decode()


def unpack(packed: str | None) -> bytes | None:
    """Decompress the result of `pack`.

    Raises:
        CaptionerError: It is damaged.
    """
    if packed is None:
        return None
    try:
        stream = zlib.decompressobj()
        content = stream.decompress(base64.b85decode(packed), _LARGEST_ORIGINAL)
        if not stream.eof:
            raise ValueError("it is cut short or too large")
    except (ValueError, zlib.error) as error:
        raise CaptionerError(f"an entry of {NAME} is damaged: {error}") from error
    return content


def folders_with_manifest(root: Path) -> Iterator[Path]:
    """Folders with a manifest, including the given one and those below; links are not followed."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        if NAME in files:
            yield Path(folder)


def _line(entry: Entry) -> bytes:
    from captioner import __version__

    return json.dumps({"captioner": __version__} | entry).encode() + b"\n"


def _is_entry(entry: Entry) -> bool:
    """Whether an entry is valid; file names have no folder, so that none leads out of it."""
    if "form" not in entry:
        return (
            all(isinstance(entry.get(name), str) for name in ("picture", "caption"))
            and isinstance(entry.get("log_probability"), float)
            and isinstance(entry.get("confidence"), float | None)
        )
    name, slots = entry.get("file"), entry.get("slots")
    return (
        isinstance(name, str)
        and name not in ("", os.curdir, os.pardir)
        and os.path.basename(name) == name
        and isinstance(entry.get("sha256"), str)
        and isinstance(slots, dict)
        and all(isinstance(slot, dict) and isinstance(slot.get("text"), str) for slot in slots.values())
        and all(isinstance(slot.get("before"), str | None) for slot in slots.values())
        and isinstance(entry.get("original"), str | None)
        and isinstance(entry.get("modified"), int | None)
    )
