"""Paths as other systems spell them: Windows' backslashes, macOS's decomposed letters, another case."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping

_ADDRESS = re.compile(r"(?:^|/)(?:[A-Za-z][A-Za-z0-9+.-]+:/|data:[a-z]+/)", re.I)
_DRIVE = re.compile(r"(?:^|/)[A-Za-z]:[\\/]")


class Listings:
    """Folders' files, each folder listed once: far quicker than 100,000 times asking for one file."""

    def __init__(self) -> None:
        self._files: dict[str, frozenset[str]] = {}
        self._links: dict[str, frozenset[str]] = {}
        self._names: dict[str, Mapping[str, str | None]] = {}
        self._folders: dict[str, str | None] = {}

    def has(self, path: str | os.PathLike[str]) -> bool:
        """Whether there is such a file, spelled so."""
        folder, name = os.path.split(path)
        return name in self.files(folder)

    def files(self, folder: str) -> frozenset[str]:
        """The names of a folder's files; none where it cannot be listed."""
        if folder not in self._files:
            self._files[folder], self._links[folder] = _list(folder)
        return self._files[folder]

    def links(self, folder: str) -> frozenset[str]:
        """Those of a folder's files that are symbolic links."""
        self.files(folder)
        return self._links[folder]

    def find(self, path: str | os.PathLike[str]) -> str | None:
        """The one file that a path means in another spelling of its letters, or without its ending; None without."""
        folder, name = os.path.split(path)
        actual = self._folder(folder)
        if actual is None:
            return None
        if name in self.files(actual):
            return os.path.join(actual, name)
        if actual not in self._names:
            self._names[actual] = _by_spelling(self.files(actual))
        found = self._names[actual].get(fold(name))
        return None if found is None else os.path.join(actual, found)

    def _folder(self, path: str) -> str | None:
        if path not in self._folders:
            self._folders[path] = path if os.path.isdir(path or os.curdir) else self._respelled_folder(path)
        return self._folders[path]

    def _respelled_folder(self, path: str) -> str | None:
        above, name = os.path.split(path)
        parent = self._folder(above) if above != path else None
        if parent is None or not name:
            return None
        try:
            folders = [entry.name for entry in os.scandir(parent or os.curdir) if entry.is_dir()]
        except OSError:
            return None
        found = [other for other in folders if fold(other) == fold(name)]
        return os.path.join(parent, found[0]) if len(found) == 1 else None


def fold(name: str) -> str:
    """A name without the case of its letters and without the choice of composed or decomposed ones."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def with_slashes(path: str) -> str:
    """A path that Windows may have written, with / for its backslashes."""
    return path.replace("\\", "/")


def is_address(path: str) -> bool:
    """Whether a path is, or ends on, a web address or the like (https:, s3:, data:) that may have lost slashes."""
    return _ADDRESS.search(path) is not None


def has_drive(path: str) -> bool:
    """Whether a path, or what is in its folder, begins with a drive of Windows."""
    return _DRIVE.search(path) is not None


def tell_missing(path: str) -> str:
    """Why there is no such file, and the cure: another spelling that is there, a web address, a pattern.

    Args:
        path: The file as the user wrote it.
    """
    if is_address(path):
        if path.lower().startswith("file:"):
            return f"is an address; give the path alone: {re.sub('^file:/*', '/', path, flags=re.I)}"
        if path.lower().startswith("data:"):
            return "is a data address; decode it and give the bytes"
        return "is an address, and nothing is fetched; download it (curl -L -O ADDRESS) and give the file"
    other = Listings().find(with_slashes(path) if "\\" in path else path)
    if other is not None and not os.path.lexists(path):  # else a link to nowhere
        return f"no such file; {_difference(path, other)}"
    if has_drive(path):
        return "no such file; it is a path of Windows: in WSL, C:\\ is /mnt/c/"
    if re.search(r"[*?]|\[.+\]", path):
        return "no such file; a pattern is not looked up: without quotes the shell does, in Python Path.glob"
    return "no such file; check the path"


def _difference(path: str, other: str) -> str:
    if "\\" in path and with_slashes(path) == other:
        return f"{other} is there: write / for \\"
    if unicodedata.normalize("NFC", path) == unicodedata.normalize("NFC", other):
        return f"one of the same look is there, spelled with other Unicode characters: {other!a}"
    return f"{other} is there: write it so"


def _by_spelling(names: frozenset[str]) -> dict[str, str | None]:
    """The files of a folder by their folded names, and by these without ending; None where several have one."""
    found: dict[str, str | None] = {}
    for key, name in (
        *((fold(name), name) for name in names),
        *((fold(stem), name) for name in names if (stem := os.path.splitext(name)[0]) not in names),
    ):
        found[key] = None if key in found and found[key] != name else name
    return found


def _list(folder: str) -> tuple[frozenset[str], frozenset[str]]:
    """The names of a folder's files, and those of them that are links."""
    try:
        with os.scandir(folder or os.curdir) as entries:
            files = [(entry.name, entry.is_symlink()) for entry in entries if not _is_folder(entry)]
    except (OSError, ValueError):
        files = []
    return frozenset(name for name, _ in files), frozenset(name for name, is_link in files if is_link)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or to where one may not look: opening it tells
        return False
