"""Convert images with more than 8 bits per channel to 8 bits, which Pillow itself clips, inverts or darkens."""

from __future__ import annotations

import sys
from typing import IO, Any

import numpy as np
from PIL import Image, ImageChops, ImageFile, TiffImagePlugin

_BITS = (8, 10, 12, 14, 16, 24, 32)
"""Bit depths of cameras, microscopes and scanners, in files of 16 or 32 bits."""

# TIFF tags (TIFF 6.0, section 8), and some of their values.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAX_SAMPLE_VALUE, _PLANAR, _SAMPLE_FORMAT = 258, 262, 281, 284, 339
_WHITE_IS_ZERO = 0
_PLANES_APART = 2
_UNSIGNED = 1

_OTHER_ORDER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
"""Suffix of a 16-bit raw mode for the opposite byte order."""


def gray_in_eight_bits(image: Image.Image, file: Image.Image) -> Image.Image:
    """Scale deep gray values to 8 bits.

    The white level is the file's own, else that of the smallest of `_BITS` that fits.

    Args:
        image: Image in Pillow's mode I or F.
        file: The opened file, which may state the white level.
    """
    values = np.asarray(image)
    if image.mode == "F":
        values = np.nan_to_num(values)
        values = (values * 255).round() if values.max() <= 1 else values
    elif _tag(file, _BITS_PER_SAMPLE) == 32 and _tag(file, _SAMPLE_FORMAT, _UNSIGNED) == _UNSIGNED:
        values = values.view(np.uint32)  # which Pillow reads as signed
    gray = Image.fromarray(_scaled(np.clip(values, 0, 2**32 - 1).astype(np.uint32), _told_white(file)))
    # 8 bits are handled by Pillow.
    return ImageChops.invert(gray) if _tag(file, _PHOTOMETRIC) == _WHITE_IS_ZERO else gray


def load_colors(image: Image.Image, file: IO[bytes]) -> None:
    """Load a color TIFF with 16 bits per channel, of which Pillow keeps only the upper bytes.

    Pillow would read separate planes as 8 bits. If 14 bits or fewer are used, the lower bytes are read, too, and the
    white level is chosen as in `gray_in_eight_bits`.

    Args:
        image: The image, not loaded yet; other images are left unchanged.
        file: The file that it was opened from.
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
    lower.tile = [_with_mode(tile, _other_order(_mode(tile))) for tile in lower.tile]
    values = upper.astype(np.uint32) << 8 | np.asarray(lower)
    image.paste(Image.fromarray(_scaled(values, _told_white(image))))


def _scaled(values: np.ndarray, white: int) -> np.ndarray:
    """Scale integers to 8 bits, by their own depth or the file's white level."""
    greatest = max(white, int(values.max()))
    bits = next(bits for bits in _BITS if greatest < 1 << bits)
    return (values >> (bits - 8)).astype(np.uint8)


def _tell_depth_of_planes(image: TiffImagePlugin.TiffImageFile) -> None:
    if _tag(image, _PLANAR) == _PLANES_APART:
        order = ";16B" if image.tag_v2.prefix == b"MM" else ";16L"
        image.tile = [
            _with_mode(tile, _mode(tile) + order) if tile.codec_name == "raw" else tile for tile in image.tile
        ]


def _mode(tile: ImageFile._Tile) -> str:
    assert isinstance(tile.args, tuple)
    return str(tile.args[0])


def _with_mode(tile: ImageFile._Tile, mode: str) -> ImageFile._Tile:
    assert isinstance(tile.args, tuple)
    return tile._replace(args=(mode, *tile.args[1:]))


def _other_order(mode: str) -> str:
    return mode[:-1] + _OTHER_ORDER[mode[-1]]


def _told_white(image: Image.Image) -> int:
    """The white level stated by the file; 0 if unknown."""
    told = _tag(image, _MAX_SAMPLE_VALUE)
    return told if isinstance(told, int) and 0 < told < 1 << 32 else 0


def _tag(image: Image.Image, number: int, default: int | None = None) -> Any:  # noqa: ANN401 (files hold anything)
    """Read a TIFF tag, for several channels that of the first; the default if it is missing."""
    value = getattr(image, "tag_v2", {}).get(number, default)
    return (value or (default,))[0] if isinstance(value, tuple) else value
