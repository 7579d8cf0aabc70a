"""Resolve image paths of an annotation file, within the image folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.utils.spelling import Listings, with_slashes

_CURE = "write one that is, or set images_anywhere"

_FOLDER_NAME = re.compile(r"(?<![a-z])(train|val|test)\d*(?![a-z\d])", re.I)
"""Part of an annotation file's name that is also a folder's, as in captions_train2017."""

_NOT_BARE = re.compile(r"[/\\\0]|^\.{0,2}$")


def resolve_path(image: Path, source: Path, images: Path | None, anywhere: bool = False) -> Path:
    """Resolve the path of an image.

    Args:
        image: The path in the annotation file.
        source: The annotation file.
        images: The folder that paths are relative to; by default that of ``source``. If given, absolute paths are
            refused.
        anywhere: Whether paths may lead out of the folder.

    Raises:
        CaptionerError: The path leads out of the folder.
    """
    folder = source.parent if images is None else images
    if anywhere:
        return Path(os.path.normpath(folder / image))
    if image.is_absolute():
        if images is not None:
            raise CaptionerError(f"{image} in {source} is absolute: write it relative to the image folder {images}")
        inside = os.path.relpath(image, os.path.abspath(folder))
    else:
        inside = os.path.normpath(image)
    if inside == os.curdir or inside.split(os.sep)[0] == os.pardir:
        raise CaptionerError(
            f"image path {str(image)!r} in {source} is not within {folder}: {_CURE}", "images_anywhere"
        )
    return Path(os.path.normpath(image if image.is_absolute() else folder / inside))


class Finder:
    """Finds images in common folder layouts, with paths as other systems write them.

    Args:
        source: The annotation file.
        images: The folder, as in `resolve_path`.
        anywhere: As in `resolve_path`.
    """

    def __init__(self, source: Path, images: Path | None, anywhere: bool) -> None:
        self.source = source
        self.images = images
        self.anywhere = anywhere
        self.listings = Listings()
        self._root = os.path.normpath(source.parent if images is None else images)
        named = _FOLDER_NAME.search(source.stem)
        self._usual = (*((named[0],) if named else ()), "images", "Images")

    def find(self, image: Path, folder: str = "") -> Path:
        """Find an image; returns the expected path if it is missing.

        A bare file name is also searched in the folder of its URL (COCO's train2017), in the folder named like the
        annotation file, and in ``images``. Paths may differ in slashes, case or Unicode normalization.

        Args:
            image: The path in the annotation file.
            folder: The folder in its URL.

        Raises:
            CaptionerError: The path leads out of the folder.
        """
        name = str(image)
        is_bare = not _NOT_BARE.search(name)
        if is_bare and (found := self._find_bare(name, folder)):
            return Path(found)
        written = resolve_path(image, self.source, self.images, self.anywhere)
        if self.listings.has(written):
            return written
        for below in ("", *self._below(folder)) if is_bare else ("",):
            path = resolve_path(Path(below, with_slashes(name)), self.source, self.images, self.anywhere)
            respelled = self.listings.find(path)
            if respelled is not None:
                return Path(respelled)
        return written

    def _find_bare(self, name: str, folder: str) -> str | None:
        """Whether a path is a plain file name."""
        if name in self.listings.files(self._root):
            return os.path.join(self._root, name)
        for below in self._below(folder):
            path = os.path.join(self._root, below)
            if name in self.listings.files(path):
                return os.path.join(path, name)
        return None

    def _below(self, folder: str) -> tuple[str, ...]:
        """Folders in which to search a plain file name."""
        return (folder, *self._usual) if folder else self._usual


def refuse_links_out(
    pictures: Iterable[Path], source: Path, images: Path | None, listings: Listings | None = None
) -> None:
    """Refuse symbolic links that lead out of the image folder.

    Args:
        pictures: Paths returned by `resolve_path`.
        source: The annotation file.
        images: The folder, as in `resolve_path`.
        listings: Folder listings, if available.

    Raises:
        CaptionerError: A link leads out of the folder.
    """
    folder = source.parent if images is None else images
    root = os.path.realpath(folder)
    real = RealPaths(listings or Listings())
    inside: dict[str, bool] = {}
    for picture in pictures:
        path = real.of(picture)
        parent = os.path.dirname(path)
        if parent not in inside:
            inside[parent] = Path(parent).is_relative_to(root)
        if not inside[parent]:
            raise CaptionerError(
                f"{picture} in {source} is a link to {path}, not within {folder}: {_CURE}", "images_anywhere"
            )


class RealPaths:
    """Resolves symbolic links with few system calls.

    Args:
        listings: Folder listings, which identify links.
    """

    def __init__(self, listings: Listings) -> None:
        self._listings = listings
        self._folders: dict[str, str] = {}

    def of(self, picture: Path) -> str:
        """The real path of a file."""
        folder, name = os.path.split(picture)
        if name in self._listings.links(folder):
            return os.path.realpath(picture)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], name)
