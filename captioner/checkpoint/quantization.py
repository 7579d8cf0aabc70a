"""Quantization of matrices and kernels to eight bits with one scale per row: a quarter of float32's size."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from captioner.errors import CaptionerError

STEPS = ":steps"
"""Suffix of the name of a matrix's steps (scales); names of parameters contain no colon."""

_LARGEST = 127
"""Largest absolute value of the integers; with -128 the range would not be symmetric."""


def quantize(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row to integer multiples of a step, 1/127 of its largest absolute weight.

    Args:
        weights: A matrix, or the kernels of a convolution, shape (rows, ...).

    Returns:
        The multiples, int8, in the shape of the weights; and the steps, float32, shape (rows,), 0 for a row of zeros.
        The error of a weight is at most half a step.
    """
    rows = weights.float().flatten(1)
    steps = rows.abs().amax(1) / _LARGEST
    multiples = (rows / steps.where(steps > 0, 1).unsqueeze(1)).round()
    return multiples.to(torch.int8).view(weights.shape), steps


def round_weights(weights: Tensor) -> Tensor:
    """Round weights to what `quantize` represents exactly: float32, same shape."""
    multiples, steps = quantize(weights)
    return _multiply(multiples, steps)


def are_rounded(weights: Tensor) -> bool:
    """Whether weights come from `round_weights`, so that quantization is lossless."""
    return torch.allclose(round_weights(weights), weights.float(), rtol=1e-5, atol=0)


def dequantize(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Restore the weights that `quantize` has quantized.

    Args:
        tensors: Weights by name; those in int8 have their steps under their name and `STEPS`.

    Returns:
        The weights without steps; quantized ones in float32.

    Raises:
        CaptionerError: Steps do not match an int8 matrix.
    """
    weights = {name: value for name, value in tensors.items() if not name.endswith(STEPS)}
    for steps_name in tensors.keys() - weights.keys():
        name, steps = steps_name.removesuffix(STEPS), tensors[steps_name]
        matrix = weights.get(name)
        if matrix is None or matrix.dtype != torch.int8 or matrix.ndim < 2 or steps.shape != matrix.shape[:1]:
            raise CaptionerError(f"its {steps_name} belong to no int8 matrix; it is malformed")
        weights[name] = _multiply(matrix, steps)
    return weights


def _multiply(multiples: Tensor, steps: Tensor) -> Tensor:
    return multiples * steps.float().view(-1, *[1] * (multiples.ndim - 1))
