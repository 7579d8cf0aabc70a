"""Weight gradients of a loop over words in one product."""

from __future__ import annotations

from types import TracebackType
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear


class Unrolled:
    """While it is entered, `step_linear` puts the gradients of weights off until the loop's last step is done.

    A step multiplies a weight by few rows, so that its gradient, a sum over the steps of products of those rows, costs
    more for reading and writing the sum than for arithmetic. Kept until the end of the backward pass, all rows of all
    steps make one product.
    """

    _entered: ClassVar[Unrolled | None] = None

    def __init__(self) -> None:
        self._weights: dict[Tensor, tuple[Tensor, list[tuple[Tensor, Tensor]]]] = {}

    def __enter__(self) -> None:
        Unrolled._entered = self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        Unrolled._entered = None

    @classmethod
    def linear(cls, x: Tensor, weight: Tensor) -> Tensor:
        """The product x Wᵀ, within the loop that has been entered, if any."""
        loop = cls._entered
        if loop is None or not weight.requires_grad or not torch.is_grad_enabled():
            return linear(x, weight)
        if weight not in loop._weights:
            kind = x.device.type
            lower = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
            tape: list[tuple[Tensor, Tensor]] = []
            loop._weights[weight] = _Gather.apply(weight.to(lower), tape), tape
        gathered, tape = loop._weights[weight]
        product: Tensor = _Product.apply(x.to(gathered.dtype), gathered, tape)
        return product


class _Gather(Function):
    """A weight as the loop sees it; backward, which comes after that of all products, makes its gradient."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, tape: list[tuple[Tensor, Tensor]]) -> Tensor:  # noqa: ANN401
        ctx.tape = tape
        ctx.set_materialize_grads(False)
        return weight.view_as(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: None) -> tuple[Tensor | None, None]:  # noqa: ANN401
        if not ctx.tape:
            return None, None
        inputs, gradients = (torch.cat(parts) for parts in zip(*ctx.tape, strict=True))
        ctx.tape.clear()
        return gradients.T @ inputs, None


class _Product(Function):
    """A step's x Wᵀ, which leaves what the gradient of W is made of."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, tape: list[tuple[Tensor, Tensor]]) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x, weight)
        ctx.tape = tape
        return x @ weight.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        ctx.tape.append((x, gradient))
        return gradient @ weight, None, None
