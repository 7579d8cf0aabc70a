"""Where the pictures lie that an annotation file names: within their folder, whoever wrote the file, and however."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.utils.spelling import Listings, with_slashes

_CURE = "write one that is, or allow it with --images-anywhere (training: data.images_anywhere)"

_FOLDER_NAME = re.compile(r"(?<![a-z])(train|val|test)\d*(?![a-z\d])", re.I)
"""In the name of an annotation file, such as captions_train2017: a folder of pictures of their own."""


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
        raise CaptionerError(f"image path {str(image)!r} in {source} is not within {folder}: {_CURE}")
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
        written = resolve_path(image, self.source, self.images, self.anywhere)
        if self.listings.has(written):
            return written
        name = with_slashes(str(image))
        is_bare = "/" not in name
        for below in dict.fromkeys(("", *(((folder,) if folder else ()) + self._usual if is_bare else ()))):
            path = resolve_path(Path(below, name), self.source, self.images, self.anywhere)
            found = self.listings.find(path)
            if found is not None:
                return Path(found)
        return written


def refuse_links_out(pictures: Iterable[Path], source: Path, images: Path | None) -> None:
    """Sees to it that no symbolic link leads from the folder of pictures to somewhere else.

    Args:
        pictures: Files as `resolve_path` gives them.
        source: The annotation file.
        images: The folder, as in `resolve_path`.

    Raises:
        CaptionerError: One does.
    """
    folder = source.parent if images is None else images
    root = Path(os.path.realpath(folder))
    real_parents: dict[str, str] = {}
    for picture in pictures:
        parent = os.path.dirname(picture)
        if parent not in real_parents:
            real_parents[parent] = os.path.realpath(parent)
        is_link = os.path.islink(picture)
        real = os.path.realpath(picture) if is_link else os.path.join(real_parents[parent], picture.name)
        if not Path(real).is_relative_to(root):
            raise CaptionerError(f"{picture} in {source} is a link to {real}, not within {folder}: {_CURE}")
