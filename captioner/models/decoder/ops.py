"""Fast operations of the decoder on CPUs: packed matrix products, dropout, and gradients of unrolled loops."""

from __future__ import annotations

import platform
from collections.abc import Callable
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from captioner.utils.caching import Attached, Scope

_PACKED: Attached[Tensor | None] = Attached("packed")
"""The packed form of a weight."""


def pack(module: nn.Module) -> None:
    """Pack all matrices of a module.

    Args:
        module: A module whose weights must not change afterwards: `linear` would not notice.
    """
    for weight in module.parameters():
        _PACKED.set(weight, packed(weight.detach()))


def can_pack(matrix: Tensor, dtype: torch.dtype) -> bool:
    """Whether `packed` supports a matrix: only on x86 CPUs, where it was measured."""
    known = platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not known or not matrix.is_cpu or matrix.ndim != 2:
        return False
    if dtype == torch.bfloat16:
        supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return supported
    return dtype == torch.float32


def packed(matrix: Tensor) -> Tensor | None:
    """Pack a matrix into the layout of oneDNN's kernels.

    Packing takes about as long as a product with a few rows, and torch packs again for every product.

    Args:
        matrix: Shape (n, k).

    Returns:
        The packed matrix for `multiply`; None where packing is not supported.
    """
    if not can_pack(matrix, matrix.dtype):
        return None
    laid_out: Tensor = torch.ops.mkldnn._reorder_linear_weight(matrix)
    return laid_out


def multiply(x: Tensor, laid_out: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute x Wᵀ + b without a gradient.

    Args:
        x: Shape (…, k).
        laid_out: W of shape (n, k), packed by `packed`.
        bias: b, shape (n,); a float32 bias is added to a bfloat16 product before it is rounded.

    Returns:
        Shape (…, n).
    """
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, laid_out, bias, "none", [], "")
    return product


def multiplier(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    """Build a function that multiplies by Wᵀ without a gradient, for W of shape (n, k)."""
    laid_out = packed(matrix)
    return (lambda x: x @ matrix.mT) if laid_out is None else (lambda x: multiply(x, laid_out))


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute x Wᵀ + b, with the packed W if `pack` has made one and no gradient is needed."""
    laid_out = _PACKED.get(weight)
    if laid_out is not None and not torch.is_grad_enabled() and x.device == laid_out.device:
        return multiply(x, laid_out, bias)
    if bias is not None and bias.dtype != weight.dtype:  # unlike `multiply`, torch's own product refuses that
        return functional.linear(x, weight) + bias
    return functional.linear(x, weight, bias)


class Linear(nn.Linear):
    """`torch.nn.Linear` on top of `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute x Wᵀ + b."""
        return linear(x, self.weight, self.bias)


_BITS = 16
"""Random bits per value: the resolution of the dropout rate."""

_DRAWN_BITS = 64


class Dropout(nn.Dropout):
    """Dropout (Srivastava et al., 2014) that samples four values at a time on a CPU.

    torch draws a random number of 64 bits for each value there, which took 6 % of a training step; here each value uses
    16 of these bits. The rate is exact to 1/65,536, and the kept values are scaled by the exact rate.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Set some values to 0 and scale the others up, in training; any shape."""
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return super().forward(x)
        numbers = x.new_empty(-(-x.numel() * _BITS // _DRAWN_BITS), dtype=torch.int64).random_(-(2**63), None)
        dropped_numbers = int(self.p * 2**_BITS)
        kept = numbers.view(torch.int16)[: x.numel()].view(x.shape) >= dropped_numbers - 2 ** (_BITS - 1)
        scale = 2**_BITS / (2**_BITS - dropped_numbers)
        mask: Tensor = kept.to(x.dtype).mul_(scale)
        return x * mask


def drop_channels(grid: Tensor, share: float) -> Tensor:
    """Spatial dropout (Tompson et al., 2015): zero a channel in all regions of an image, and scale the others up.

    Neighboring regions are so similar that single values could be inferred from them.

    Args:
        grid: Feature vectors, shape (images, regions, channels).
        share: Share of the channels to drop, in [0, 1).
    """
    return functional.dropout1d(grid.mT, share).mT if share else grid


class Unrolled(Scope):
    """Context manager of an unrolled loop, whose weight gradients are computed in one product after the last step.

    A step multiplies a matrix by few rows, so that accumulating its gradient over the steps costs more for reading and
    writing the sum than for arithmetic. Here the rows of all steps are collected until the end of the backward pass,
    and make one product. A weight is packed once for all steps.
    """

    def __init__(self) -> None:
        self._matrices: dict[Tensor, tuple[Tensor, _Weight | _Matrices]] = {}
        self._wholes: dict[Tensor, Tensor] = {}  # from a return value of `first` to its argument

    @classmethod
    def linear(cls, x: Tensor, weight: Tensor) -> Tensor:
        """Compute x Wᵀ, of shapes (rows, k) and (n, k), as part of the current loop, if any."""
        loop = cls._loop(weight)
        return linear(x, weight) if loop is None else loop._product(x, weight, _Weight)

    @classmethod
    def matmul(cls, x: Tensor, matrices: Tensor) -> Tensor:
        """Compute the products x M, of shapes (n, rows, k) and (n, k, columns), as part of the current loop, if any."""
        loop = cls._loop(matrices)
        return x.to(matrices.dtype) @ matrices if loop is None else loop._product(x, matrices, _Matrices)

    @classmethod
    def first(cls, matrices: Tensor, count: int) -> Tensor:
        """Select the first of several matrices; within a loop, their gradients are part of the gradient of all."""
        if len(matrices) == count:
            return matrices
        part = matrices[:count]
        loop = cls.current()
        if loop is not None:
            loop._wholes[part] = loop._wholes.get(matrices, matrices)
        return part

    @classmethod
    def _loop(cls, matrix: Tensor) -> Unrolled | None:
        return cls.current() if matrix.requires_grad and torch.is_grad_enabled() else None

    def _product(self, x: Tensor, matrix: Tensor, kind: type[_Weight] | type[_Matrices]) -> Tensor:
        matrix = self._wholes.get(matrix, matrix)
        if matrix not in self._matrices:
            device = x.device.type
            lower = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else matrix.dtype
            rounded = matrix.to(lower)
            known = kind(rounded.detach())
            self._matrices[matrix] = _Gather.apply(rounded, known), known
        gathered, known = self._matrices[matrix]
        product: Tensor = _Product.apply(x.to(gathered.dtype), gathered, known)
        return product


class _Weight:
    """A weight, shape (n, k), with the inputs of each step and the gradients of its outputs."""

    def __init__(self, weight: Tensor) -> None:
        self.tape: list[tuple[Tensor, Tensor]] = []
        self.forth = multiplier(weight)
        self.back = multiplier(weight.mT)

    def gradient(self) -> Tensor:
        """Gradient of the weight from all steps."""
        inputs, gradients = (torch.cat(parts) for parts in zip(*self.tape, strict=True))
        return gradients.mT @ inputs


class _Matrices:
    """Like `_Weight`, for one matrix per image, shape (n, k, columns); a step may use only the first of them."""

    def __init__(self, matrices: Tensor) -> None:
        self.tape: list[tuple[Tensor, Tensor]] = []
        self._matrices = matrices

    def forth(self, x: Tensor) -> Tensor:
        """Multiply."""
        return x @ self._matrices[: len(x)]

    def back(self, gradient: Tensor) -> Tensor:
        """Propagate the gradient of a product to its input."""
        return gradient @ self._matrices[: len(gradient)].mT

    def gradient(self) -> Tensor:
        """Gradient of the matrices from all steps."""
        whole = self._matrices.new_zeros(self._matrices.shape)  # contiguous, like the products that are added
        for count, steps in groupby(self.tape, lambda step: len(step[0])):
            inputs, gradients = (torch.cat(parts, dim=1) for parts in zip(*steps, strict=True))
            whole[:count] += inputs.mT @ gradients
        return whole


class _Gather(Function):
    """Passes a matrix to the loop; its backward, which runs after that of all products, computes the gradient."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, known: _Weight | _Matrices) -> Tensor:  # noqa: ANN401
        ctx.known = known
        ctx.set_materialize_grads(False)
        return matrix.view_as(matrix)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: None) -> tuple[Tensor | None, None]:  # noqa: ANN401
        if not ctx.known.tape:
            return None, None
        gradient = ctx.known.gradient()
        ctx.known.tape.clear()
        return gradient, None


class _Product(Function):
    """The product of one step; its backward records the factors of the matrix's gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, _: Tensor, known: _Weight | _Matrices) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x)
        ctx.known = known
        return known.forth(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        [x] = ctx.saved_tensors
        ctx.known.tape.append((x, gradient))
        return ctx.known.back(gradient), None, None
