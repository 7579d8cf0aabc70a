"""XMP sidecars: ``photo.jpg.xmp`` or ``photo.xmp`` next to ``photo.jpg``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.sidecars.descriptions import Description, words_in_packet, words_in_picture
from captioner.sidecars.targets import Maker, Target, read_file
from captioner.sidecars.xmp import DESCRIPTION, IMAGE_DESCRIPTION

FORM = "xmp"
NAMES = ("photo.jpg.xmp", "photo.xmp")
"""Naming schemes of sidecars."""

_FIELDS = (DESCRIPTION, IMAGE_DESCRIPTION)


def target(picture: Path, name: str, maker: Maker) -> Target:
    """Open an image's sidecar, with one of the `NAMES`."""
    long, short = picture.with_name(f"{picture.name}.xmp"), picture.with_suffix(".xmp")
    path, other = (long, short) if name == NAMES[0] else (short, long)
    return Target(
        FORM,
        path,
        dict.fromkeys(_FIELDS, picture),
        lambda content: Description(content, _FIELDS, maker),
        lambda: _words_elsewhere(picture, path, other),
    )


def of_file(path: Path, maker: Maker) -> Target:
    """Open a sidecar by its path."""
    return Target(FORM, path, {}, lambda content: Description(content, _FIELDS, maker))


def _words_elsewhere(picture: Path, path: Path, other: Path) -> Mapping[str, str]:
    """Find a human description in the other field, the sidecar with the other name, or the image itself.

    A program that prefers the new field would show our caption instead.
    """
    for sidecar in (path, other):
        try:
            content = read_file(sidecar)
            if content and (words := words_in_packet(content)):
                return dict.fromkeys(_FIELDS, words)
        except CaptionerError:
            continue  # errors are reported when it is written
    return dict.fromkeys(_FIELDS, words_in_picture(picture))
