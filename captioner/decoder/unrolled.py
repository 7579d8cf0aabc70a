"""Gradients of the matrices that a loop over words multiplies, in one product each."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from captioner.decoder.products import linear, multiplier


class Unrolled:
    """While it is entered, gradients of matrices that steps multiply are put off until the loop's last step is done.

    A step multiplies a matrix by few rows, so that its gradient, a sum over the steps of products of those rows, costs
    more for reading and writing the sum than for arithmetic. Kept until the end of the backward pass, all rows of all
    steps make one product. The matrix itself is laid out once for all steps.
    """

    _entered: ClassVar[Unrolled | None] = None

    def __init__(self) -> None:
        self._matrices: dict[Tensor, _Matrix] = {}

    def __enter__(self) -> None:
        Unrolled._entered = self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        Unrolled._entered = None

    @classmethod
    def linear(cls, x: Tensor, weight: Tensor) -> Tensor:
        """The product x Wᵀ, within the loop that has been entered, if any."""
        return cls._product(x, weight, transposed=True)

    @classmethod
    def matmul(cls, x: Tensor, matrices: Tensor) -> Tensor:
        """The products x M of shapes (n, rows, k) and (n, k, columns), within the loop that has been entered."""
        return cls._product(x, matrices, transposed=False)

    @classmethod
    def _product(cls, x: Tensor, matrix: Tensor, transposed: bool) -> Tensor:
        loop = cls._entered
        if loop is None or not matrix.requires_grad or not torch.is_grad_enabled():
            return linear(x, matrix) if transposed else x.to(matrix.dtype) @ matrix
        if matrix not in loop._matrices:
            kind = x.device.type
            lower = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else matrix.dtype
            tape: list[tuple[Tensor, Tensor]] = []
            gathered = _Gather.apply(matrix.to(lower), tape, transposed)
            forth = gathered.detach() if transposed else gathered.detach().mT
            loop._matrices[matrix] = _Matrix(gathered, tape, multiplier(forth), multiplier(forth.mT))
        known = loop._matrices[matrix]
        product: Tensor = _Product.apply(x.to(known.gathered.dtype), known.gathered, known)
        return product


class _Matrix(NamedTuple):
    gathered: Tensor
    tape: list[tuple[Tensor, Tensor]]  # what each step multiplied, and the gradient of what came out
    forth: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]  # from the gradient of a product to that of what was multiplied


class _Gather(Function):
    """A matrix as the loop sees it; backward, which comes after that of all products, makes its gradient."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, tape: list[tuple[Tensor, Tensor]], transposed: bool) -> Tensor:  # noqa: ANN401
        ctx.tape, ctx.transposed = tape, transposed
        ctx.set_materialize_grads(False)
        return matrix.view_as(matrix)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: None) -> tuple[Tensor | None, None, None]:  # noqa: ANN401
        if not ctx.tape:
            return None, None, None
        inputs, gradients = (torch.cat(parts, dim=-2) for parts in zip(*ctx.tape, strict=True))
        ctx.tape.clear()
        return gradients.mT @ inputs if ctx.transposed else inputs.mT @ gradients, None, None


class _Product(Function):
    """A step's product, which leaves what the gradient of the matrix is made of."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, _: Tensor, matrix: _Matrix) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x)
        ctx.matrix = matrix
        return matrix.forth(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        [x] = ctx.saved_tensors
        ctx.matrix.tape.append((x, gradient))
        return ctx.matrix.back(gradient), None, None
