"""Matrices and kernels in eight bits, each row a step of its own: a quarter of float32's room in a file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from captioner.errors import CaptionerError

STEPS = ":steps"
"""What follows a matrix's name in that of its steps; the names of parameters hold no colon."""

_LARGEST = 127
"""Of the whole numbers kept; with -128 the range would not be symmetric."""


def quantize(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Rounds each row to whole multiples of a step that its largest weight is 127 of.

    Args:
        weights: A matrix, or a convolution's kernels, shape (rows, ...).

    Returns:
        The multiples, int8, of the weights' shape; the steps, float32, shape (rows,), 0 for a row of zeros. A weight
        and its multiple of the step differ by half a step at most.
    """
    rows = weights.float().flatten(1)
    steps = rows.abs().amax(1) / _LARGEST
    multiples = (rows / steps.where(steps > 0, 1).unsqueeze(1)).round()
    return multiples.to(torch.int8).view(weights.shape), steps


def round_weights(weights: Tensor) -> Tensor:
    """The weights as `quantize` keeps them, which keeps them as they are from then on: float32, of the same shape."""
    multiples, steps = quantize(weights)
    return _multiply(multiples, steps)


def are_rounded(weights: Tensor) -> bool:
    """Whether `round_weights` has made them, so that eight bits cost nothing."""
    return torch.allclose(round_weights(weights), weights.float(), rtol=1e-5, atol=0)


def dequantize(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Puts together what `quantize` took apart.

    Args:
        tensors: Weights by their names; beside a matrix or kernels in int8 their steps, under their name and `STEPS`.

    Returns:
        The weights without steps, those that had some in float32.

    Raises:
        CaptionerError: Steps belong to no matrix in int8 of as many rows.
    """
    weights = {name: value for name, value in tensors.items() if not name.endswith(STEPS)}
    for steps_name in tensors.keys() - weights.keys():
        name, steps = steps_name.removesuffix(STEPS), tensors[steps_name]
        matrix = weights.get(name)
        if matrix is None or matrix.dtype != torch.int8 or matrix.ndim < 2 or steps.shape != matrix.shape[:1]:
            raise CaptionerError(f"its {steps_name} belong to no int8 matrix; it was put together wrongly")
        weights[name] = _multiply(matrix, steps)
    return weights


def _multiply(multiples: Tensor, steps: Tensor) -> Tensor:
    return multiples * steps.float().view(-1, *[1] * (multiples.ndim - 1))
