"""Undo of written captions, also after files were moved within the folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from captioner.data.folders import SUFFIXES
from captioner.errors import CaptionerError
from captioner.sidecars import embedded, forms, xmp_files
from captioner.sidecars.manifest import BusyError, Entry, Manifest, Manifests, digest_of, folders_with_manifest
from captioner.sidecars.targets import Maker, Row, Target
from captioner.sidecars.xmp import OURS

_NOBODY = Maker("", "")
"""Placeholder maker for undo."""


def take_back(paths: Sequence[Path], names: Sequence[str], is_trial: bool, report: Callable[[Row], None]) -> None:
    """Restore each file as it was before captions were written into it.

    In files that have changed since, only remaining texts of ours are removed.

    Args:
        paths: Folders; or images, for their own files only.
        names: The forms to undo, from `captioner.sidecars.forms.FORMS`.
        is_trial: Whether this is a dry run.
        report: Called with each line of the report.

    Raises:
        CaptionerError: A path does not exist, or another process is writing there.
    """
    for path in paths:
        if not os.path.lexists(path):
            raise CaptionerError(f"{path}: no such file; check the path")
        _Undo(path, names, is_trial, report).run()


class _Undo:
    """Undoes the writes in a folder's manifests, or only those for one image."""

    def __init__(self, path: Path, names: Sequence[str], is_trial: bool, report: Callable[[Row], None]) -> None:
        self._root = path if path.is_dir() else path.parent
        ends = (".xmp", *(f".{form}" for form in forms.TEXT_FILES))
        self._meant = None if path.is_dir() else {path.name, f"{path.name}.xmp", *(path.stem + end for end in ends)}
        self._names = names
        self._is_trial = is_trial
        self._report = report
        self._manifests = Manifests()
        self._failed: set[tuple[str, str]] = set()
        self._refused: set[Path] = set()

    def run(self) -> None:
        """Undo all; failures stay in the manifests, for another run."""
        try:
            for folder in folders_with_manifest(self._root) if self._meant is None else (self._root,):
                with self._telling(folder):
                    manifest = self._manifests.of(folder)
                    if not self._is_trial and manifest.path.exists():
                        manifest.open()
            self._take_back_marked()
            self._take_back_listed()
            for manifest in self._manifests:
                if not self._is_trial and manifest.folder not in self._refused:
                    with self._telling(manifest.folder):
                        self._forget(manifest)
        finally:
            self._manifests.close()

    @contextmanager
    def _telling(self, folder: Path) -> Iterator[None]:
        """Reports a folder whose manifest cannot be read or written; its files stay, and the others are done."""
        try:
            yield
        except BusyError:
            raise
        except CaptionerError as error:
            self._refused.add(folder)
            self._report(Row("error", folder, str(error)))

    def _take_back_marked(self) -> None:
        """Files with provenance marks, wherever they are."""
        for path in self._files():
            form = xmp_files.FORM if path.suffix.lower() == ".xmp" else embedded.FORM
            if form not in self._names or path.is_symlink() or not self._is_meant(path.name):
                continue
            if path.parent in self._refused:
                continue
            target = forms.of_file(form, path, _NOBODY)
            try:
                content = target.read()
            except CaptionerError:
                continue  # an unreadable file was not written
            if content is not None and OURS.encode() in content:
                alike = self._by_content.get((form, digest_of(content)), ())
                self._undo(target, next(filter(target.is_as_written, alike), None))

    def _take_back_listed(self) -> None:
        """Files listed in a manifest."""
        for manifest in self._manifests:
            if manifest.folder in self._refused:
                continue
            for (form, name), entry in manifest.written.items():
                if form not in forms.WITH_MARKS and form in self._names and self._is_meant(name):
                    self._undo(forms.of_file(form, self._find(manifest.folder / name, form, entry), _NOBODY), entry)

    def _undo(self, target: Target, entry: Entry | None) -> None:
        """Undo one file.

        Args:
            target: The file.
            entry: Its manifest entry, unless its own mark is used.
        """
        try:
            row = target.undo(target.version(self._manifests) or entry, self._is_trial)
        except (CaptionerError, OSError) as error:
            self._failed.add((target.form, target.path.name))
            told = f"{target.path}: {error.strerror or error}" if isinstance(error, OSError) else str(error)
            row = Row("error", target.path, told)
        if row is not None:
            self._report(row)

    def _find(self, path: Path, form: str, entry: Entry) -> Path:
        """Find a file: unchanged or changed at its path, in another folder, or under another name."""
        if self._meant is not None or forms.of_file(form, path, _NOBODY).is_as_written(entry):
            return path
        others: list[Path] = self._by_name.get(path.name, []) + self._by_name.get(path.suffix, [])
        for other in others:
            if other not in self._listed and forms.of_file(form, other, _NOBODY).is_as_written(entry):
                self._listed.add(other)
                return other
        return path

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        """All files below the folder by name, and by extension."""
        found: dict[str, list[Path]] = {}
        for folder, folders, files in os.walk(self._root):
            folders.sort()
            for name in sorted(files):
                path = Path(folder) / name
                for key in {name, path.suffix}:
                    found.setdefault(key, []).append(path)
        return found

    @cached_property
    def _listed(self) -> set[Path]:
        """Unchanged files at their original paths."""
        return {
            manifest.folder / name
            for manifest in self._manifests
            for (form, name), entry in manifest.written.items()
            if form not in forms.WITH_MARKS
            and forms.of_file(form, manifest.folder / name, _NOBODY).is_as_written(entry)
        }

    @cached_property
    def _by_content(self) -> dict[tuple[str, str], list[Entry]]:
        """All entries by form and digest, for files that were renamed."""
        found: dict[tuple[str, str], list[Entry]] = {}
        for manifest in self._manifests:
            for (form, _, digest), entry in manifest.versions.items():
                found.setdefault((form, digest), []).append(entry)
        return found

    def _forget(self, manifest: Manifest) -> None:
        left = [
            entry
            for (form, name), entry in manifest.written.items()
            if form not in self._names or not self._is_meant(name) or (form, name) in self._failed
        ]
        if len(left) < len(manifest.written) or not left:
            manifest.keep([*left, *(manifest.made.values() if left else ())])

    def _is_meant(self, name: str) -> bool:
        return self._meant is None or name in self._meant

    def _files(self) -> Iterator[Path]:
        ends = SUFFIXES | {".xmp"}
        for folder, folders, files in os.walk(self._root):
            folders.sort()
            if self._meant is not None:
                folders.clear()
            yield from (Path(folder) / name for name in sorted(files) if Path(name).suffix.lower() in ends)
