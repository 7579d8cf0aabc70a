"""List the images in a folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.utils.tar_files import is_tar, members

SUFFIXES = frozenset(
    {".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"}
    | {".jpx", ".jxl", ".mpo", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".tga", ".tif"}
    | {".tiff", ".webp"}
    | {".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"}
)
"""Lower-case extensions of image files; the last are raw camera formats. Unsupported formats are included, so that they
are reported rather than ignored."""

_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"RIFF")
"""First bytes of image files without an extension."""

GALLERY_END = "_files"
"""Suffix of a gallery's folder."""


def find_images(
    path: str | os.PathLike[str], with_shards: bool = False, others: Collection[str] = ()
) -> Iterator[Path]:
    """Yield the image files below a folder, sorted; a path that is not a folder is yielded itself.

    Files without an extension are recognized by their content. Hidden files and folders and a gallery's thumbnails are
    skipped; links to folders are not followed, to avoid cycles. A folder or tar file that cannot be listed is yielded
    itself, for `open_image` to report.

    Args:
        path: The folder, or another path.
        with_shards: Whether tar files are listed like folders, in the order of their members.
        others: Lower-case extensions of further files to yield.
    """
    # A list instead of recursion: folders can be nested deeper than Python's stack.
    waiting = [(Path(path), os.path.isdir(path))]  # unlike Path.is_dir, it never raises
    while waiting:
        found, is_folder = waiting.pop()
        try:
            entries = sorted(os.scandir(found), key=lambda entry: os.fsencode(entry.name)) if is_folder else None
        except OSError:
            entries = None
        if entries is None:
            yield from _inside(found) if with_shards and is_tar(found) else [found]
            continue
        for entry in reversed(entries):
            is_folder = entry.is_dir(follow_symlinks=False)
            below = Path(entry.path)
            is_shard = (with_shards and is_tar(below)) or below.suffix.lower() in others
            if not entry.name.startswith(".") and (is_folder or is_shard or _is_image(entry, below)):
                waiting.append((below, is_folder))


def _inside(shard: Path) -> list[Path]:
    try:
        return [shard / name for name in members(shard) if is_picture(name)]
    except CaptionerError:
        return [shard]


def is_picture(name: str) -> bool:
    """Whether a file's name ends like a picture's."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _is_image(entry: os.DirEntry[str], path: Path) -> bool:
    if path.suffix:
        return is_picture(path.name) and not _is_thumbnail(path)
    try:
        if not entry.is_file():
            return False
        with path.open("rb") as file:
            return file.read(12).startswith(_STARTS)
    except OSError:
        return False


def _is_thumbnail(picture: Path) -> bool:
    """Whether an image is part of a gallery."""
    in_gallery = picture.suffix == ".jpg" and picture.parent.name.endswith(GALLERY_END)
    return in_gallery and picture.with_suffix(".html").exists()
