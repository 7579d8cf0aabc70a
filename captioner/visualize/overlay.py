"""Blend an attention map with its image."""

from __future__ import annotations

from importlib import resources

import numpy as np
from PIL import Image

from captioner.caption import TRAINED_TO_LOOK, Caption
from captioner.data.images import ImageSource, open_image
from captioner.errors import CaptionerError
from captioner.utils.caching import memoized

COLOR_MAP = "inferno"
"""Perceptually uniform with monotonic lightness: readable with color blindness and in gray print."""

OPACITY = 0.6
"""Opacity of the color over the gray image."""

UNSEEN_GRAY = 232
"""Color of the parts that the encoder does not see: a light gray, which the color map lacks."""


def load_photograph(image: ImageSource, longest_side: int) -> Image.Image:
    """Read an image, upright, with at most ``longest_side`` pixels a side."""
    photograph = open_image(image)
    photograph.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    return photograph


def maps_of(caption: Caption) -> np.ndarray:
    """Return a caption's maps, float32, shape (words, rows, columns).

    Raises:
        CaptionerError: There are none.
    """
    if caption.attention is None:
        raise CaptionerError(
            f"there is no attention to show; {TRAINED_TO_LOOK}, or set saliency to gradient", "saliency"
        )
    return caption.attention


def maps_to_draw(caption: Caption) -> np.ndarray:
    """Return a caption's maps, at least one.

    Raises:
        CaptionerError: There is none.
    """
    maps = maps_of(caption)
    if not caption.words:
        raise CaptionerError("the caption has no words, so there is no attention to show; try another photograph")
    return maps


def spread(weights: np.ndarray, region: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    """Enlarge a map to its image's size, interpolating between the centers of the regions.

    Args:
        weights: One map, shape (rows, columns).
        region: The part of the image that the map covers, as in `Caption.region`.
        size: Width and height of the image, in pixels.

    Returns:
        Weights relative to the map's maximum, in [0, 1], shape (height, width); NaN outside the region.
    """
    width, height = size
    left, right = _pixels(region[0], region[2], width)
    top, bottom = _pixels(region[1], region[3], height)
    shares = Image.fromarray((weights / max(float(weights.max()), np.finfo(np.float32).tiny)).astype(np.float32))
    field = np.full((height, width), np.nan, np.float32)
    # Cubic interpolation can overshoot.
    field[top:bottom, left:right] = np.clip(
        np.asarray(shares.resize((right - left, bottom - top), Image.Resampling.BICUBIC)), 0, 1
    )
    return field


def paint(photograph: Image.Image, weights: np.ndarray, region: tuple[float, float, float, float]) -> Image.Image:
    """Blend a map in color with the image in gray.

    Args:
        photograph: The upright RGB image.
        weights: One map, shape (rows, columns).
        region: The part of the image that the map covers, as in `Caption.region`.

    Returns:
        RGB, of the image's size.
    """
    field = spread(weights, region, photograph.size)
    color = palette()[np.rint(np.nan_to_num(field) * 255).astype(np.uint8)]
    color[np.isnan(field)] = UNSEEN_GRAY
    gray = photograph.convert("L").convert("RGB")
    return Image.blend(gray, Image.fromarray(color), OPACITY)


@memoized()
def palette() -> np.ndarray:
    """The color map's 256 colors from no attention to most, uint8, shape (256, 3).

    They are matplotlib's (its color maps are CC0), kept in a file, so that pages need none of it.
    """
    colors = (resources.files("captioner.visualize") / "web" / f"{COLOR_MAP}.txt").read_text(encoding="ascii")
    return np.frombuffer(bytes.fromhex(colors), np.uint8).reshape(-1, 3)


def _pixels(start: float, end: float, length: int) -> tuple[int, int]:
    """Convert edges given as fractions to pixels, at least one apart."""
    first = min(round(start * length), length - 1)
    return first, max(round(end * length), first + 1)
