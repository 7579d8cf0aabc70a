"""XMP sidecars: ``photo.jpg.xmp`` or ``photo.xmp`` beside ``photo.jpg``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.sidecars.descriptions import Description, words_in_packet, words_in_picture
from captioner.sidecars.targets import Maker, Target, read_file
from captioner.sidecars.xmp import DESCRIPTION, IMAGE_DESCRIPTION

FORM = "xmp"
NAMES = ("photo.jpg.xmp", "photo.xmp")
"""How the sidecar of ``photo.jpg`` may be named."""

_FIELDS = (DESCRIPTION, IMAGE_DESCRIPTION)


def target(picture: Path, name: str, maker: Maker) -> Target:
    """The sidecar of a picture, named as one of `NAMES`."""
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
    """A sidecar by its own path."""
    return Target(FORM, path, {}, lambda content: Description(content, _FIELDS, maker))


def _words_elsewhere(picture: Path, path: Path, other: Path) -> Mapping[str, str]:
    """A person's description in the other field, the sidecar of the other name, or the picture itself.

    A program that reads the new field first would show it in place of theirs.
    """
    for sidecar in (path, other):
        try:
            content = read_file(sidecar)
            if content and (words := words_in_packet(content)):
                return dict.fromkeys(_FIELDS, words)
        except CaptionerError:
            continue  # one that cannot be read is reported where it would be written
    return dict.fromkeys(_FIELDS, words_in_picture(picture))
