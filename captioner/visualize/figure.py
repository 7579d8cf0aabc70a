"""A figure with the image, and a panel for each word."""

from __future__ import annotations

import importlib
import math
import textwrap
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from captioner.caption import Caption
from captioner.data.images import ImageSource
from captioner.visualize.fonts import BOX, choose_fonts
from captioner.visualize.overlay import COLOR_MAP, OPACITY, UNSEEN_GRAY, load_photograph, maps_to_draw, spread

if TYPE_CHECKING:
    from matplotlib import figure as matplotlib_figure
    from matplotlib.axes import Axes
else:

    class _Deferred:
        """A module that is imported on first use, for example by `typing.get_type_hints`."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, name: str) -> object:
            return getattr(importlib.import_module(self._name), name)

    matplotlib_figure = _Deferred("matplotlib.figure")

# Inches.
SHEET_WIDTH = 13.0
PANEL_SIDE = 2.4
"""Panel side of a square image; others get the same area."""
LEAST_WIDTH, GREATEST_SIDE = 1.3, 4.0
TITLE_HEIGHT = 0.55
CAPTION_LINE = 0.28
BAR_WIDTH, BAR_HEIGHT, BAR_STRIP = 3.0, 0.12, 0.75
GAP = 0.12

# Points, 72 to the inch.
CAPTION_SIZE, WORD_SIZE, LEAST_WORD_SIZE, NOTE_SIZE = 14, 13, 6, 8
LETTER_WIDTH = 0.65
"""Width of a bold letter relative to the font size, slightly above average."""

LONGEST_SIDE = 640
"""Maximum pixels per side of a drawn image: a panel shows no more."""


def plot(image: ImageSource, caption: Caption, measure: str = "attention") -> matplotlib_figure.Figure:
    """Draw a figure: the image, then the image under the attention map of each word.

    Each map covers the part of the image that the encoder sees, interpolated between the centers of its regions, with
    colors from 0 to the map's maximum. The maximum is printed above the panel, with the word's probability, to
    distinguish flat maps from peaked ones.

    Args:
        image: The image, as for `captioner.Captioner.caption`.
        caption: Its caption.
        measure: Name of what the maps show, such as ``attention``.

    Returns:
        A figure that is not registered with pyplot: ``figure.savefig(FILE)`` writes it.

    Raises:
        CaptionerError: The model has no attention, or the image is unreadable.
    """
    from matplotlib.cm import ScalarMappable

    maps = maps_to_draw(caption)
    fonts, missing = choose_fonts((caption.text, *caption.words))
    boxes = str.maketrans(dict.fromkeys(missing, BOX))
    photograph = load_photograph(image, LONGEST_SIDE)
    panel_width, panel_height = _panel_size(*photograph.size)
    panels = 1 + len(maps)
    # The figure widens beyond a hundred words, since images are limited to 65,535 rows.
    rows = math.ceil(panels / max(1, int(SHEET_WIDTH / panel_width), math.isqrt(panels // 4)))
    columns = math.ceil(panels / rows)
    width = max(columns * (panel_width + GAP) + GAP, BAR_WIDTH + 2 * GAP)
    lines = textwrap.wrap(caption.text, int(width * 72 / (CAPTION_SIZE * LETTER_WIDTH)))
    row_height = TITLE_HEIGHT + panel_height
    height = GAP + len(lines) * CAPTION_LINE + rows * row_height + BAR_STRIP

    figure = matplotlib_figure.Figure(figsize=(width, height))
    figure.text(
        0.5,
        1 - GAP / height,
        _plain("\n".join(lines)).translate(boxes),
        ha="center",
        va="top",
        fontsize=CAPTION_SIZE,
        fontfamily=fonts,
    )
    for index in range(panels):
        left = GAP + index % columns * (panel_width + GAP)
        bottom = BAR_STRIP + (rows - 1 - index // columns) * row_height
        axis = figure.add_axes((left / width, bottom / height, panel_width / width, panel_height / height))
        axis.set_axis_off()
        if index == 0:
            axis.imshow(photograph)
            _label(axis, "photograph", "", panel_width, fonts)
            continue
        weights = maps[index - 1]
        _lay(axis, weights, caption.region, photograph)
        probability = math.exp(caption.word_log_probabilities[index - 1])
        note = f"p = {probability:.2f}, peak {weights.max():.0%}"
        if caption.looking_away is not None:
            note += f", away {caption.looking_away[index - 1]:.0%}"
        _label(axis, caption.words[index - 1].translate(boxes), note, panel_width, fonts)
    left, bottom = (width - BAR_WIDTH) / 2, BAR_STRIP - 0.3
    axis = figure.add_axes((left / width, bottom / height, BAR_WIDTH / width, BAR_HEIGHT / height))
    bar = figure.colorbar(ScalarMappable(cmap=COLOR_MAP), cax=axis, orientation="horizontal", ticks=[0, 0.5, 1])
    bar.set_ticklabels([f"no {measure}", "half", "the map's peak"])
    return figure


def _panel_size(width: int, height: int) -> tuple[float, float]:
    """Width and height of a panel in inches, for a photograph of the given shape."""
    panel_width = min(max(PANEL_SIDE * math.sqrt(width / height), LEAST_WIDTH), GREATEST_SIDE)
    return panel_width, min(panel_width * height / width, GREATEST_SIDE)


def _lay(axis: Axes, weights: np.ndarray, region: tuple[float, float, float, float], photograph: Image.Image) -> None:
    """Draw a map in color over the image in gray, as two artists that can be restyled."""
    from matplotlib import colormaps

    colors = colormaps[COLOR_MAP].with_extremes(bad=str(UNSEEN_GRAY / 255))
    axis.imshow(photograph.convert("L"), cmap="gray", vmin=0, vmax=255)
    axis.imshow(spread(weights, region, photograph.size), cmap=colors, vmin=0, vmax=1, alpha=OPACITY)


def _label(axis: Axes, word: str, note: str, width: float, fonts: list[str]) -> None:
    """Write a word and a note above a panel of a width in inches."""
    word, size = _fitted(word, width)
    axis.set_title(_plain(word), fontsize=size, fontweight="bold", fontfamily=fonts, pad=15)
    axis.annotate(note, (0.5, 1), (0, 4), "axes fraction", "offset points", ha="center", fontsize=NOTE_SIZE)


def _fitted(word: str, width: float) -> tuple[str, float]:
    """Fit a word to a width in inches: returns the word, possibly shortened, and its font size in points."""
    room = width * 72 / LETTER_WIDTH
    letters = int(room / LEAST_WORD_SIZE)
    if len(word) > letters:
        word = word[: letters - 1] + "…"
    return word, min(WORD_SIZE, room / max(len(word), 1))


def _plain(text: str) -> str:
    """Escape text that Matplotlib would parse as a formula."""
    return text.replace("$", r"\$")
