"""Matrices in eight bits, each row a step of its own: a quarter of float32's room in a file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from captioner.errors import CaptionerError

STEPS = ":steps"
"""What follows a matrix's name in that of its steps; the names of parameters hold no colon."""

_LARGEST = 127
"""Of the whole numbers kept; with -128 the range would not be symmetric."""


def quantise(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Rounds each row to whole multiples of a step that its largest weight is 127 of.

    Args:
        matrix: Of two dimensions.

    Returns:
        The multiples, int8, of the matrix's shape; the steps, float32, shape (rows,), 0 for a row of zeros. A weight
        and its multiple of the step differ by half a step at most.
    """
    steps = matrix.float().abs().amax(1, keepdim=True) / _LARGEST
    multiples = (matrix.float() / steps.where(steps > 0, 1)).round()
    return multiples.to(torch.int8), steps.squeeze(1)


def dequantise(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Puts together what `quantise` took apart.

    Args:
        tensors: Weights by their names; beside a matrix in int8, or a kernel of a file of former days, its steps,
            under its name and `STEPS`.

    Returns:
        The weights without steps, matrices that had some in float32.

    Raises:
        CaptionerError: Steps belong to no matrix in int8 of as many rows.
    """
    weights = {name: value for name, value in tensors.items() if not name.endswith(STEPS)}
    for steps_name in tensors.keys() - weights.keys():
        name, steps = steps_name.removesuffix(STEPS), tensors[steps_name]
        matrix = weights.get(name)
        if matrix is None or matrix.dtype != torch.int8 or matrix.ndim < 2 or steps.shape != matrix.shape[:1]:
            raise CaptionerError(f"its {steps_name} belong to no int8 matrix; it was put together wrongly")
        weights[name] = matrix * steps.float().view(-1, *[1] * (matrix.ndim - 1))
    return weights
