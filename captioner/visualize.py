"""Where the decoder looked, drawn over the photograph."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from captioner.errors import CaptionerError
from captioner.images import ImageSource, open_image
from captioner.pipeline import Caption

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 5
PANEL_INCHES = 2.6
COLOUR_MAP = "viridis"  # perceptually uniform, and told apart by colour-blind readers
OPACITY = 0.6
LONGEST_SIDE = 640
"""Photographs are drawn with at most this many pixels a side: a panel shows no more."""


def plot(image: ImageSource, caption: Caption) -> Figure:
    """Draws a contact sheet: the photograph, then for each word the photograph under its attention map.

    Every map is drawn on the part of the photograph that the encoder saw, smoothed between the centres of its cells,
    on a colour scale that runs from no attention to the map's greatest weight.

    Args:
        image: The photograph, as `captioner.Captioner.caption` takes it.
        caption: Its caption.

    Returns:
        A figure that is not registered with pyplot: ``figure.savefig(FILE)`` writes it.

    Raises:
        CaptionerError: The model has no attention, or the photograph cannot be read.
    """
    if caption.attention is None:
        raise CaptionerError("this model has no attention to show; use one trained with decoder.attention: soft")
    if not caption.words:
        raise CaptionerError("the caption has no words, so there is no attention to show")
    photograph = open_image(image)
    photograph.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    width, height = photograph.size
    panels = 1 + len(caption.words)
    columns = min(COLUMNS, panels)
    rows = math.ceil(panels / columns)
    figure = Figure(
        figsize=(columns * PANEL_INCHES, rows * (PANEL_INCHES * min(2.0, height / width) + 0.4) + 0.5),
        layout="constrained",
    )
    figure.suptitle(_plain(caption.text), wrap=True)
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for axis in axes:
        axis.set_axis_off()
    axes[0].imshow(photograph)
    left, top, right, bottom = caption.region
    extent = (left * width, right * width, bottom * height, top * height)
    for axis, word, weights in zip(axes[1:], caption.words, caption.attention, strict=False):
        axis.imshow(photograph)
        heat = axis.imshow(
            weights / weights.max(),
            extent=extent,
            interpolation="bicubic",
            cmap=COLOUR_MAP,
            alpha=OPACITY,
            vmin=0,
            vmax=1,
        )
        _frame(axis, word, width, height)
    figure.colorbar(heat, ax=axes, label="attention, as a share of each map's greatest", shrink=0.6)
    return figure


def _frame(axis: Axes, word: str, width: int, height: int) -> None:
    axis.set_title(_plain(word), fontsize=11)
    axis.set_xlim(-0.5, width - 0.5)
    axis.set_ylim(height - 0.5, -0.5)


def _plain(text: str) -> str:
    """Text that Matplotlib does not read as a formula."""
    return text.replace("$", r"\$")
