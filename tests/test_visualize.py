"""From a cell of the grid to the pixels under it."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from captioner.errors import CaptionerError
from captioner.images import Transform
from captioner.pipeline import Caption
from captioner.visualize import plot


def caption_of(cell: tuple[int, int], region: tuple[float, float, float, float]) -> Caption:
    attention = np.zeros((1, 7, 7), np.float32)
    attention[0][cell] = 1
    return Caption(("spot",), (0.0, 0.0), attention, region)


@pytest.mark.parametrize("cell", [(0, 0), (2, 5), (6, 3), (3, 3)])
@pytest.mark.parametrize("size", [(210, 140), (140, 210), (168, 168)])
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_a_map_lies_over_the_pixels_that_its_cell_saw(
    cell: tuple[int, int], size: tuple[int, int], resize: str
) -> None:
    width, height = size
    left, top, right, bottom = Transform(224, resize).region(width, height)  # type: ignore[arg-type]
    figure = plot(
        Image.new("RGB", size, "black"), caption_of(cell, (left / width, top / height, right / width, bottom / height))
    )
    figure.suptitle("")
    axis = figure.axes[1]
    axis.set_title("")
    heat = axis.images[1]
    heat.set_alpha(1.0)
    heat.set_cmap("gray")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    drawn = np.asarray(Image.open(buffer).convert("L")).astype(float)
    box = axis.get_window_extent()
    panel = drawn[
        round(len(drawn) - box.y1) + 1 : round(len(drawn) - box.y0) - 1, round(box.x0) + 1 : round(box.x1) - 1
    ]
    rows, columns = np.nonzero(panel > 0.95 * panel.max())
    x = columns.mean() / panel.shape[1] * width
    y = rows.mean() / panel.shape[0] * height

    cell_width, cell_height = (right - left) / 7, (bottom - top) / 7
    assert abs(x - (left + (cell[1] + 0.5) * cell_width)) <= cell_width / 2
    assert abs(y - (top + (cell[0] + 0.5) * cell_height)) <= cell_height / 2


def test_a_dollar_sign_is_no_formula() -> None:
    caption = Caption(("$x", "^$"), (0.0,) * 3, np.full((2, 2, 2), 0.25, np.float32), (0, 0, 1, 1))
    plot(Image.new("RGB", (20, 20)), caption).savefig(BytesIO(), format="png")


def test_without_attention_or_words_there_is_nothing_to_draw() -> None:
    with pytest.raises(CaptionerError, match="this model has no attention to show"):
        plot(Image.new("RGB", (20, 20)), Caption(("a",), (0.0,), None, (0, 0, 1, 1)))
    with pytest.raises(CaptionerError, match="the caption has no words"):
        plot(Image.new("RGB", (20, 20)), Caption((), (0.0,), np.zeros((0, 2, 2)), (0, 0, 1, 1)))
