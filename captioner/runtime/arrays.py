"""What torch has and numpy lacks."""

from __future__ import annotations

import numpy as np

_FEW = 16
"""Up to how many greatest values are found one after the other; sorting all takes longer than that."""


def greatest(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Finds the greatest values along the last axis, the greatest first; of equal ones, those that come first.

    Args:
        values: Shape (…, n).
        count: How many, at most n.

    Returns:
        Values and their indices, both of shape (…, count).
    """
    if count > _FEW:
        indices = np.argsort(-values, axis=-1, kind="stable")[..., :count]
        return np.take_along_axis(values, indices, -1), indices
    # What is -inf can be found too, after all others: only what was found already lies below.
    left = np.maximum(values, np.finfo(values.dtype).min).reshape(-1, values.shape[-1])
    rows = np.arange(len(left))
    found = np.empty((len(left), count), np.int64)
    for rank in range(count):
        found[:, rank] = left.argmax(1)
        left[rows, found[:, rank]] = -np.inf
    indices = found.reshape(*values.shape[:-1], count)
    return np.take_along_axis(values, indices, -1), indices


def softmax(logits: np.ndarray) -> np.ndarray:
    """The softmax along the last axis."""
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    normalized: np.ndarray = shares / shares.sum(-1, keepdims=True)
    return normalized
