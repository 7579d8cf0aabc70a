"""Pictures of more than 8 bits a channel as 8 bits, where Pillow's own conversion clips, inverts or darkens them."""

from __future__ import annotations

import sys
from typing import IO, Any

import numpy as np
from PIL import Image, ImageChops, TiffImagePlugin

_BITS = (8, 10, 12, 14, 16, 24, 32)
"""Of the values that cameras, microscopes and scanners write, in files of 16 or 32 bits."""

# Tags of TIFF (TIFF 6.0, section 8), and what some of their values mean.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAX_SAMPLE_VALUE, _PLANAR, _SAMPLE_FORMAT = 258, 262, 281, 284, 339
_WHITE_IS_ZERO = 0
_PLANES_APART = 2
_UNSIGNED = 1

_OTHER_ORDER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
"""The last letter of a raw mode of 16 bits, for the bytes of each value the other way round."""


def gray_in_eight_bits(image: Image.Image, file: Image.Image) -> Image.Image:
    """Makes gray values of more than 8 bits 8 bits: white is the file's own, else the least of `_BITS` that they need.

    Args:
        image: Of one of Pillow's modes I and F.
        file: The picture as it was opened, which may tell what values mean.
    """
    values = np.asarray(image)
    if image.mode == "F":
        values = np.nan_to_num(values)
        values = (values * 255).round() if values.max() <= 1 else values
    elif _tag(file, _BITS_PER_SAMPLE) == 32 and _tag(file, _SAMPLE_FORMAT, _UNSIGNED) == _UNSIGNED:
        values = values.view(np.uint32)  # which Pillow takes for signed
    gray = Image.fromarray(_scaled(np.clip(values, 0, 2**32 - 1).astype(np.uint32), _told_white(file)))
    # Of 8 bits, Pillow does it.
    return ImageChops.invert(gray) if _tag(file, _PHOTOMETRIC) == _WHITE_IS_ZERO else gray


def load_colors(image: Image.Image, file: IO[bytes]) -> None:
    """Loads colors of 16 bits a channel from a TIFF file. Pillow keeps the upper byte of each.

    Planes that stand apart Pillow would take for planes of 8 bits. Where 14 bits or fewer are used, the lower bytes are
    read too, and white is as in `gray_in_eight_bits`.

    Args:
        image: The picture, not loaded yet; any other than such a file's stays as it is.
        file: What it was opened from.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or image.mode not in ("RGB", "RGBA", "CMYK"):
        return
    if set(image.tag_v2.get(_BITS_PER_SAMPLE, ())) != {16}:
        return
    _tell_depth_of_planes(image)
    apart = _tag(image, _PLANAR) == _PLANES_APART and image.tile[0].codec_name != "raw"
    image.load()
    upper = np.asarray(image)
    if image.mode != "RGB" or apart or upper.max() >= 1 << 6:
        return
    lower = Image.open(file)
    assert isinstance(lower, TiffImagePlugin.TiffImageFile)
    _tell_depth_of_planes(lower)
    lower.tile = [tile._replace(args=(_other_order(tile.args[0]), *tile.args[1:])) for tile in lower.tile]
    values = upper.astype(np.uint32) << 8 | np.asarray(lower)
    image.paste(Image.fromarray(_scaled(values, _told_white(image))))


def _scaled(values: np.ndarray, white: int) -> np.ndarray:
    """Whole numbers as 8 bits of the depth that they, or the white that the file tells, need."""
    greatest = max(white, int(values.max()))
    bits = next(bits for bits in _BITS if greatest < 1 << bits)
    return (values >> (bits - 8)).astype(np.uint8)


def _tell_depth_of_planes(image: TiffImagePlugin.TiffImageFile) -> None:
    if _tag(image, _PLANAR) == _PLANES_APART:
        order = ";16B" if image.tag_v2.prefix == b"MM" else ";16L"
        image.tile = [
            tile._replace(args=(tile.args[0] + order, *tile.args[1:])) if tile.codec_name == "raw" else tile
            for tile in image.tile
        ]


def _other_order(mode: str) -> str:
    return mode[:-1] + _OTHER_ORDER[mode[-1]]


def _told_white(image: Image.Image) -> int:
    """The greatest value by the file's own word; 0 without."""
    told = _tag(image, _MAX_SAMPLE_VALUE)
    return told if isinstance(told, int) and 0 < told < 1 << 32 else 0


def _tag(image: Image.Image, number: int, default: int | None = None) -> Any:  # noqa: ANN401 (files hold anything)
    """A tag of a TIFF image, of several channels that of the first; the default where there is none."""
    value = getattr(image, "tag_v2", {}).get(number, default)
    return (value or (default,))[0] if isinstance(value, tuple) else value
