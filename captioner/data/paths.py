"""Where the pictures lie that an annotation file names: within their folder, whoever wrote the file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from captioner.errors import CaptionerError

_CURE = "write one that is, or allow it with --images-anywhere (training: data.images_anywhere)"


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
