"""Gradients of the matrices that a loop over words multiplies, in one product each."""

from __future__ import annotations

from itertools import groupby
from types import TracebackType
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from captioner.decoder.products import linear, multiplier


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
