"""Find files by paths from other systems: backslashes, decomposed Unicode, another case."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping

from captioner.utils.tar_files import list_members

_ADDRESS = re.compile(r"(?:^|/)(?:[A-Za-z][A-Za-z0-9+.-]+:/|data:[a-z]+/)", re.I)
_SCHEME = re.compile(r"(?:^|/)(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/+(?!.*:/)")
_DRIVE = re.compile(r"(?:^|/)[A-Za-z]:[\\/]")


class Listings:
    """Folder listings, cached: much faster than 100,000 queries for single files."""

    def __init__(self) -> None:
        self._files: dict[str, frozenset[str]] = {}
        self._links: dict[str, frozenset[str]] = {}
        self._names: dict[str, Mapping[str, str | None]] = {}
        self._folders: dict[str, str | None] = {}

    def has(self, path: str | os.PathLike[str]) -> bool:
        """Whether a file exists with exactly this name."""
        folder, name = os.path.split(path)
        return name in self.files(folder)

    def files(self, folder: str) -> frozenset[str]:
        """File names in a folder; empty if it cannot be listed."""
        if folder not in self._files:
            self._files[folder], self._links[folder] = _list(folder)
        return self._files[folder]

    def links(self, folder: str) -> frozenset[str]:
        """Names of symbolic links in a folder."""
        self.files(folder)
        return self._links[folder]

    def find(self, path: str | os.PathLike[str]) -> str | None:
        """Find the one file whose path differs in case, Unicode form or a missing extension; None if there is none."""
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
    """Normalize case and Unicode form of a name."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def with_slashes(path: str) -> str:
    """Replace backslashes in a path by slashes."""
    return path.replace("\\", "/")


def is_address(path: str) -> bool:
    """Whether a path is or ends with a URL (https:, s3:, data:), possibly with collapsed slashes."""
    return _ADDRESS.search(path) is not None


def as_written(path: str) -> str:
    """The URL that a path is or ends with, with the slashes that pathlib has collapsed; other paths unchanged."""
    address = _SCHEME.search(path)
    if address is None:
        return path
    return f"{address['scheme']}:{'///' if address['scheme'].lower() == 'file' else '//'}{path[address.end() :]}"


def has_drive(path: str) -> bool:
    """Whether a path, or its last part, starts with a Windows drive."""
    return _DRIVE.search(path) is not None


def tell_missing(path: str) -> str:
    """Explain why a file is missing, with a cure: a similar name, a URL, a pattern.

    Args:
        path: The path given by the user.
    """
    if is_address(path):
        if path.lower().startswith("file:"):
            return f"is an address; give the path alone: {re.sub('^file:/*', '/', path, flags=re.I)}"
        if path.lower().startswith("data:"):
            return "is a data address; decode it and give the bytes"
        return "is an address, and nothing is fetched; download it (curl -L -O ADDRESS) and give the file"
    other = Listings().find(with_slashes(path) if "\\" in path else path)
    if other is not None and not os.path.lexists(path):  # otherwise a broken link
        return f"no such file; {_difference(path, other)}"
    if os.path.islink(path):
        return f"is a link to {os.readlink(path)}, which is not there; point it to the file"
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
    """Files of a folder by normalized name, with and without extension; None for ambiguous names."""
    found: dict[str, str | None] = {}
    for key, name in (
        *((fold(name), name) for name in names),
        *((fold(stem), name) for name in names if (stem := os.path.splitext(name)[0]) not in names),
    ):
        found[key] = None if key in found and found[key] != name else name
    return found


def _list(folder: str) -> tuple[frozenset[str], frozenset[str]]:
    """List a folder's files, and which of them are links."""
    if (inside := list_members(folder)) is not None:
        return inside, frozenset()
    try:
        with os.scandir(folder or os.curdir) as entries:
            files = [(entry.name, entry.is_symlink()) for entry in entries if not _is_folder(entry)]
    except (OSError, ValueError):
        files = []
    return frozenset(name for name, _ in files), frozenset(name for name, is_link in files if is_link)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a cyclic link, or a forbidden folder: reported when opened
        return False
