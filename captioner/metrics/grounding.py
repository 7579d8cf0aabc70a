"""Grounding of attention: whether the decoder attends to what it names, measured with annotated boxes.

The pointing game (Zhang et al., 2016, Top-down Neural Attention by Excitation Backprop, section 4.1) for words instead
of classes, and the attention mass within the boxes (Liu et al., 2017, Attention Correctness in Neural Image Captioning,
section 4).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from captioner.caption import TRAINED_TO_LOOK, Caption
from captioner.data.json_fields import field, identity, parse_value, read_text, typed
from captioner.errors import CaptionerError
from captioner.utils.caching import memoized

NO_ATTENTION = f"there is no attention to measure; {TRAINED_TO_LOOK}"
"""Message for a caption without attention."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Scene:
    """Annotated boxes of one photograph.

    Attributes:
        width: Width of the upright photograph that was annotated, in pixels.
        height: Its height in pixels.
        boxes: The boxes of each category: left, top, width and height in these pixels.
    """

    width: int
    height: int
    boxes: dict[str, list[Box]]

    def mask(self, category: str) -> np.ndarray:
        """Mask of the pixels whose center is in a box of a category, shape (height, width)."""
        mask = np.zeros((self.height, self.width), bool)
        x, y = np.arange(self.width) + 0.5, np.arange(self.height) + 0.5
        for left, top, width, height in self.boxes[category]:
            mask |= np.outer((top <= y) & (y < top + height), (left <= x) & (x < left + width))
        return mask


@dataclass(frozen=True)
class Grounding:
    """Result of the pointing game. Rates are in [0, 1], and NaN without a trial.

    Attributes:
        images: Number of photographs with boxes and a caption.
        trials: Number of words that name a category with a box in their photograph.
        hits: Trials in which the center of the region with most attention lies in such a box.
        center_hits: Trials in which the center of the photograph does.
        random_hits: Expected number of trials in which a random point of the encoder's input does.
        mass_sum: Sum over the trials of the attention mass within the boxes.
        absent: Number of words that name a category without a box in their photograph; they are no trials.
    """

    images: int
    trials: int
    hits: int
    center_hits: int
    random_hits: float
    mass_sum: float
    absent: int

    @property
    def pointing(self) -> float:
        """Hit rate."""
        return self._a_trial(self.hits)

    @property
    def center(self) -> float:
        """Hit rate of the image center."""
        return self._a_trial(self.center_hits)

    @property
    def random(self) -> float:
        """Hit rate of a random point, which is also the mass of uniform attention."""
        return self._a_trial(self.random_hits)

    @property
    def mass(self) -> float:
        """Mean attention mass within the boxes."""
        return self._a_trial(self.mass_sum)

    def _a_trial(self, total: float) -> float:
        return total / self.trials if self.trials else float("nan")


def read_boxes(path: Path) -> dict[str, Scene]:
    """Read COCO's object annotations (https://cocodataset.org/#format-data).

    Args:
        path: JSON with ``images`` (``id``, ``file_name``, ``width``, ``height``), ``categories`` (``id``, ``name``) and
            ``annotations`` (``image_id``, ``category_id``, ``bbox`` in pixels of that width and height). The image
            files may have any size: maps and boxes are compared as fractions of the photograph.

    Returns:
        The scene of each file name, in the order of the file.

    Raises:
        CaptionerError: The file cannot be read or has another format.
    """
    content = typed(parse_value(read_text(path), str(path))[0], dict, str(path))
    categories: dict[int | str, str] = {}
    for number, value in enumerate(field(content, "categories", list, str(path))):
        where = f"categories[{number}] of {path}"
        entry = typed(value, dict, where)
        categories[identity(entry.get("id"), where)] = field(entry, "name", str, where)
    scenes: dict[str, Scene] = {}
    by_id: dict[int | str, Scene] = {}
    for number, value in enumerate(field(content, "images", list, str(path))):
        where = f"images[{number}] of {path}"
        entry = typed(value, dict, where)
        width, height = entry.get("width"), entry.get("height")
        if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
            raise CaptionerError(f"{where} has the size {width} × {height}: give width and height in pixels")
        scene = Scene(width, height, defaultdict(list))
        by_id[identity(entry.get("id"), where)] = scenes[field(entry, "file_name", str, where)] = scene
    for number, value in enumerate(field(content, "annotations", list, str(path))):
        where = f"annotations[{number}] of {path}"
        entry = typed(value, dict, where)
        box = field(entry, "bbox", list, where)
        image, category = (identity(entry.get(name), where) for name in ("image_id", "category_id"))
        if len(box) != 4 or not all(isinstance(edge, (int, float)) for edge in box):
            raise CaptionerError(f"{where} has the box {box}: give left, top, width and height in pixels")
        if image not in by_id or category not in categories:
            raise CaptionerError(f"{where} is of image {image} and category {category}: list both in the file")
        by_id[image].boxes[categories[category]].append(tuple(box))
    return scenes


def measure(pairs: Iterable[tuple[Caption, Scene]]) -> Grounding:
    """Play the pointing game with every word that names a category.

    Args:
        pairs: Captions, each with the scene of its photograph; the captions of a photograph are consecutive.

    Raises:
        CaptionerError: A caption has no attention.
    """
    images = trials = hits = center_hits = absent = 0
    random_hits = mass = 0.0
    last: Scene | None = None
    for caption, scene in pairs:
        if caption.attention is None:
            raise CaptionerError(NO_ATTENTION)
        images += scene is not last and any(scene.boxes.values())
        last = scene
        for index, category in named_categories(caption.words):
            if not scene.boxes.get(category):
                absent += 1
                continue
            mask = scene.mask(category)
            weights = caption.attention[index]
            covered = _covered(mask, caption.region, weights.shape)
            trials += 1
            hits += bool(mask[_peak(weights, caption.region, mask.shape)])
            center_hits += bool(mask[scene.height // 2, scene.width // 2])
            random_hits += float(covered.mean())
            mass += float((weights * covered).sum())
    return Grounding(images, trials, hits, center_hits, random_hits, mass, absent)


def named_categories(words: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Find the words that name a category of COCO.

    Yields:
        Index and category; for a name of several words, such as "hot dog", the index of the last one.
    """
    names = _names()
    longest = max(len(name) for name in names)
    start = 0
    while start < len(words):
        for length in range(longest, 0, -1):
            category = names.get(tuple(words[start : start + length]))
            if category is not None and start + length <= len(words):
                yield start + length - 1, category
                start += length - 1
                break
        start += 1


def categories_in(words: Sequence[str]) -> frozenset[str]:
    """The categories of COCO that words name, however often."""
    return frozenset(category for _, category in named_categories(words))


@memoized()
def _names() -> dict[tuple[str, ...], str]:
    text = (resources.files("captioner.metrics") / "categories.json").read_text(encoding="utf-8")
    return {tuple(name.split()): category for category, names in json.loads(text).items() for name in names}


def _covered(mask: np.ndarray, region: tuple[float, float, float, float], shape: tuple[int, ...]) -> np.ndarray:
    """Share of each region of the grid that a mask covers, shape (rows, columns).

    Args:
        mask: Shape (height, width).
        region: The part of the photograph that the grid covers, as in `Caption.region`.
        shape: Rows and columns of the grid.
    """
    height, width = mask.shape
    rows = _cells(region[1] * height, region[3] * height, shape[0], height)  # (rows, height)
    columns = _cells(region[0] * width, region[2] * width, shape[1], width)  # (columns, width)
    covered: np.ndarray = rows @ mask @ columns.T
    return covered


def _cells(start: float, end: float, cells: int, pixels: int) -> np.ndarray:
    """Share of each pixel in each cell along one side, shape (cells, pixels); rows sum to 1."""
    edges = np.linspace(start, end, cells + 1)
    pixel = np.arange(pixels)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    shares: np.ndarray = np.clip(overlap, 0, None) * cells / (end - start)
    return shares


def _peak(weights: np.ndarray, region: tuple[float, float, float, float], shape: tuple[int, ...]) -> tuple[int, int]:
    """Pixel, as row and column, at the center of the region with the greatest weight."""
    row, column = np.unravel_index(int(weights.argmax()), weights.shape)
    left, top, right, bottom = region
    y = (top + (row + 0.5) / weights.shape[0] * (bottom - top)) * shape[0]
    x = (left + (column + 0.5) / weights.shape[1] * (right - left)) * shape[1]
    return int(y), int(x)
