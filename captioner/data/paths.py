"""Where the pictures lie that an annotation file names: within their folder, whoever wrote the file, and however."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.utils.spelling import Listings, with_slashes

_CURE = "write one that is, or set images_anywhere"

_FOLDER_NAME = re.compile(r"(?<![a-z])(train|val|test)\d*(?![a-z\d])", re.I)
"""In the name of an annotation file, such as captions_train2017: a folder of pictures of their own."""

_NOT_BARE = re.compile(r"[/\\\0]|^\.{0,2}$")


def resolve_path(image: Path, source: Path, images: Path | None, anywhere: bool = False) -> Path:
    """The file of a picture.

    Args:
        image: Its path as the annotation file writes it.
        source: The annotation file.
        images: The folder that paths are relative to; by default that of ``source``. With it, no absolute path is
            taken.
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
    """Finds pictures in their folder, as data sets are unpacked and as other systems spell paths.

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
        """The file of a picture, or where it would be if it were there.

        A bare name is also looked for in the folder of its address (COCO's train2017), in the one that the annotation
        file's name says, and in ``images``. A path may have backslashes, another case, or letters composed otherwise.

        Args:
            image: Its path as the annotation file writes it.
            folder: The folder that its address names.

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
        """A name without a folder, which leads nowhere else."""
        if name in self.listings.files(self._root):
            return os.path.join(self._root, name)
        for below in self._below(folder):
            path = os.path.join(self._root, below)
            if name in self.listings.files(path):
                return os.path.join(path, name)
        return None

    def _below(self, folder: str) -> tuple[str, ...]:
        """Folders in which a name without a folder may lie."""
        return (folder, *self._usual) if folder else self._usual


def refuse_links_out(
    pictures: Iterable[Path], source: Path, images: Path | None, listings: Listings | None = None
) -> None:
    """See to it that no symbolic link leads from the folder of pictures to somewhere else.

    Args:
        pictures: Files as `resolve_path` gives them.
        source: The annotation file.
        images: The folder, as in `resolve_path`.
        listings: Of the folders, where they have been listed.

    Raises:
        CaptionerError: One does.
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
    """Files without the links that lead to them; only what is a link is asked for.

    Args:
        listings: Tells which files are links.
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
