"""A picture of attention over words: which word was written while looking at which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

INCHES = 0.42
"""Side of a cell."""


def of_words(weights: np.ndarray, read: Sequence[int], written: Sequence[int]) -> np.ndarray:
    """Attention between whole words: the sum over the pieces that are read, the mean over those that are written.

    Args:
        weights: The weights, shape (pieces written, pieces read).
        read: Numbers of pieces of the words read.
        written: Numbers of pieces of the words written.

    Returns:
        The weights, shape (words written, words read), whose rows still sum to 1.
    """
    columns = np.add.reduceat(weights, np.cumsum([0, *read[:-1]]), axis=1)
    rows = np.add.reduceat(columns, np.cumsum([0, *written[:-1]]), axis=0)
    means: np.ndarray = rows / np.array(written)[:, None]
    return means


def draw(weights: np.ndarray, read: Sequence[str], written: Sequence[str], path: Path, kind: str) -> None:
    """Draw attention weights as a grid of cells, from white for 0 to black for 1.

    Args:
        weights: The weights p_ti, shape (words written, words read).
        read: The words of the columns.
        written: The words of the rows.
        path: The file to write.
        kind: Its format, such as ``png``.
    """
    size = (INCHES * len(read) + 1.6, INCHES * len(written) + 1.6)
    figure = Figure(figsize=size, layout="constrained")
    axis = figure.add_subplot()
    axis.imshow(weights, cmap="gray_r", vmin=0, vmax=1)
    axis.set_xticks(range(len(read)), read, rotation=60, ha="left", rotation_mode="anchor")
    axis.set_yticks(range(len(written)), written)
    axis.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False)
    figure.savefig(path, format=kind, dpi=120)
