"""Products with matrices that stay as they are, as a decoder that writes captions has them at every word."""

from __future__ import annotations

import platform

import torch
from torch import Tensor, nn
from torch.nn import functional


def pack(module: nn.Module) -> None:
    """Lays all matrices of a module out as oneDNN's kernels read them, once instead of at every product.

    To lay a matrix out takes about as long as to multiply it by few rows. Does nothing but on CPUs of the x86 family,
    the only ones on which it was measured.

    Args:
        module: Its weights must not be changed any more: `linear` would not see it.
    """
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    dtypes = {torch.float32}
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        dtypes.add(torch.bfloat16)
    for weight in module.parameters():
        if weight.ndim == 2 and weight.is_cpu and weight.dtype in dtypes:
            weight.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach())  # type: ignore[attr-defined]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product x Wᵀ + b, with the matrix as `pack` has laid it out, if it has and no gradient is wanted.

    Args:
        x: Shape (…, k).
        weight: W, shape (n, k).
        bias: b, shape (n,).

    Returns:
        Shape (…, n).
    """
    packed = getattr(weight, "packed", None)
    if packed is None or torch.is_grad_enabled():
        return functional.linear(x, weight, bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return product


class Linear(nn.Linear):
    """torch's layer, with `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """The product x Wᵀ + b."""
        return linear(x, self.weight, self.bias)
