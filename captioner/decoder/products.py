"""Products with a matrix that stays as it is from word to word."""

from __future__ import annotations

import platform
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


def pack(module: nn.Module) -> None:
    """Lays all matrices of a module out once and for all.

    Args:
        module: Its weights must not be changed any more: `linear` would not see it.
    """
    for weight in module.parameters():
        weight.packed = packed(weight.detach())  # type: ignore[attr-defined]


def can_pack(matrix: Tensor, dtype: torch.dtype) -> bool:
    """Whether `packed` lays a matrix of some type out: on CPUs of the x86 family, where it was measured."""
    known = platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not known or not matrix.is_cpu or matrix.ndim != 2:
        return False
    if dtype == torch.bfloat16:
        supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return supported
    return dtype == torch.float32


def packed(matrix: Tensor) -> Tensor | None:
    """A matrix as oneDNN's kernels read it.

    To lay a matrix out takes about as long as to multiply it by few rows, and torch does so at every product.

    Args:
        matrix: Shape (n, k).

    Returns:
        What `multiply` takes; None where that is not possible.
    """
    if not can_pack(matrix, matrix.dtype):
        return None
    laid_out: Tensor = torch.ops.mkldnn._reorder_linear_weight(matrix)
    return laid_out


def multiply(x: Tensor, laid_out: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product x Wᵀ + b, without a gradient.

    Args:
        x: Shape (…, k).
        laid_out: What `packed` made of W, shape (n, k).
        bias: b, shape (n,); one of float32 is added to a product of bfloat16 before that is rounded.

    Returns:
        Shape (…, n).
    """
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, laid_out, bias, "none", [], "")
    return product


def multiplier(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    """What multiplies by Wᵀ again and again, without a gradient, for W of shape (n, k)."""
    laid_out = packed(matrix)
    return (lambda x: x @ matrix.mT) if laid_out is None else (lambda x: multiply(x, laid_out))


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product x Wᵀ + b; where `pack` has laid W out and no gradient is wanted, by that."""
    laid_out = getattr(weight, "packed", None)
    if laid_out is not None and not torch.is_grad_enabled() and x.device == laid_out.device:
        return multiply(x, laid_out, bias)
    if bias is not None and bias.dtype != weight.dtype:  # torch's own product refuses that, `multiply` does not
        return functional.linear(x, weight) + bias
    return functional.linear(x, weight, bias)


class Linear(nn.Linear):
    """torch's layer, with `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """The product x Wᵀ + b."""
        return linear(x, self.weight, self.bias)
