"""Fast operations of the decoder on CPUs: packed matrix products, dropout, and gradients of unrolled loops."""

from __future__ import annotations

import platform
from collections.abc import Callable
from itertools import groupby
from types import TracebackType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
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


_BITS = 16
"""Of chance for a value: how finely the share is met, and how many bytes are drawn."""

_DRAWN_BITS = 64


class Dropout(nn.Dropout):
    """Dropout (Srivastava et al., 2014), drawn on a CPU four values at a time.

    There torch draws a random number of 64 bits for each value, which took 6 % of a training step; here each has
    sixteen of those bits. The share is met to 1/65,536, and what is kept is scaled by just that.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Values of any shape, of which some are 0 and the others scaled up while it trains."""
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return super().forward(x)
        numbers = x.new_empty(-(-x.numel() * _BITS // _DRAWN_BITS), dtype=torch.int64).random_(-(2**63), None)
        dropped_numbers = int(self.p * 2**_BITS)
        kept = numbers.view(torch.int16)[: x.numel()].view(x.shape) >= dropped_numbers - 2 ** (_BITS - 1)
        scale = 2**_BITS / (2**_BITS - dropped_numbers)
        mask: Tensor = kept.to(x.dtype).mul_(scale)
        return x * mask


def drop_channels(grid: Tensor, share: float) -> Tensor:
    """Spatial dropout (Tompson et al., 2015): a dropped channel is 0 in all cells of an image, the others scaled up.

    Cells are so alike that single values could be guessed from their neighbours.

    Args:
        grid: Feature vectors, shape (images, cells, channels).
        share: Of the channels, in [0, 1).
    """
    return functional.dropout1d(grid.mT, share).mT if share else grid


class Unrolled:
    """While it is entered, gradients of matrices that steps multiply are put off until the loop's last step is done.

    A step multiplies a matrix by few rows, so that its gradient, a sum over the steps of products of those rows, costs
    more for reading and writing the sum than for arithmetic. Kept until the end of the backward pass, all rows of all
    steps make one product. A weight is laid out once for all steps.
    """

    _entered: ClassVar[Unrolled | None] = None

    def __init__(self) -> None:
        self._matrices: dict[Tensor, tuple[Tensor, _Weight | _Matrices]] = {}
        self._wholes: dict[Tensor, Tensor] = {}  # what `first` was given, for what it gave

    def __enter__(self) -> None:
        Unrolled._entered = self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        Unrolled._entered = None

    @classmethod
    def linear(cls, x: Tensor, weight: Tensor) -> Tensor:
        """The product x Wᵀ, of shapes (rows, k) and (n, k), within the loop that has been entered, if any."""
        loop = cls._loop(weight)
        return linear(x, weight) if loop is None else loop._product(x, weight, _Weight)

    @classmethod
    def matmul(cls, x: Tensor, matrices: Tensor) -> Tensor:
        """The products x M of shapes (n, rows, k) and (n, k, columns), within the loop that has been entered."""
        loop = cls._loop(matrices)
        return x.to(matrices.dtype) @ matrices if loop is None else loop._product(x, matrices, _Matrices)

    @classmethod
    def first(cls, matrices: Tensor, count: int) -> Tensor:
        """The first of many matrices. Within a loop, their gradients become part of the gradient of all at once."""
        if len(matrices) == count:
            return matrices
        part = matrices[:count]
        if cls._entered is not None:
            cls._entered._wholes[part] = cls._entered._wholes.get(matrices, matrices)
        return part

    @classmethod
    def _loop(cls, matrix: Tensor) -> Unrolled | None:
        return cls._entered if matrix.requires_grad and torch.is_grad_enabled() else None

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
    """A weight, shape (n, k), and what each step multiplied with the gradient of what came out."""

    def __init__(self, weight: Tensor) -> None:
        self.tape: list[tuple[Tensor, Tensor]] = []
        self.forth = multiplier(weight)
        self.back = multiplier(weight.mT)

    def gradient(self) -> Tensor:
        """Of the weight, from all steps."""
        inputs, gradients = (torch.cat(parts) for parts in zip(*self.tape, strict=True))
        return gradients.mT @ inputs


class _Matrices:
    """As `_Weight` for a matrix an image, shape (n, k, columns); a step may multiply the first of them alone."""

    def __init__(self, matrices: Tensor) -> None:
        self.tape: list[tuple[Tensor, Tensor]] = []
        self._matrices = matrices

    def forth(self, x: Tensor) -> Tensor:
        """The product."""
        return x @ self._matrices[: len(x)]

    def back(self, gradient: Tensor) -> Tensor:
        """From the gradient of a product to that of what was multiplied."""
        return gradient @ self._matrices[: len(gradient)].mT

    def gradient(self) -> Tensor:
        """Of the matrices, from all steps."""
        whole = self._matrices.new_zeros(self._matrices.shape)  # laid out as the products that are added
        for count, steps in groupby(self.tape, lambda step: len(step[0])):
            inputs, gradients = (torch.cat(parts, dim=1) for parts in zip(*steps, strict=True))
            whole[:count] += inputs.mT @ gradients
        return whole


class _Gather(Function):
    """A matrix as the loop sees it; backward, which comes after that of all products, makes its gradient."""

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
    """A step's product, which leaves what the gradient of the matrix is made of."""

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
