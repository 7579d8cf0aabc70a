"""Soft attention that compares by addition."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from captioner.decoder.attention import GridAttention
from captioner.decoder.unrolled import Unrolled

SCRATCH_VALUES = 1 << 20
"""Numbers that comparing states with cells keeps at a time, 4 MB in float32: what a CPU's cache holds."""

LARGEST = 40.0
"""Where W_v v and W_h h are cut: e^(2 · 40) and its inverse are still float32 numbers, so that no product is 0 · ∞."""


class AdditiveAttention(GridAttention):
    """The score of a cell is wᵀ tanh(W_v v_i + b_v + W_h h) (Bahdanau et al., 2015; Show, Attend and Tell).

    Since tanh(a + b) = 1 - 2 / (1 + e^2a e^2b), the exponentials of keys and queries are taken apart, before they meet:
    each pair of a cell and a sentence costs a product and a division where tanh took ten times as long on a CPU. The
    constant Σ w is left out of the scores.
    """

    def __init__(self, channels: int, hidden_size: int, size: int) -> None:
        super().__init__(channels, hidden_size, size)
        self.energy = nn.Linear(size, 1, bias=False)  # a bias would cancel in the softmax

    def keys(self, grid: Tensor) -> Tensor:
        """e^(2 (W_v v_i + b_v)) for each cell, at least float32."""
        return exponential(self.key(grid))

    def scores(self, hidden: Tensor, keys: Tensor) -> Tensor:
        """The equation above; where nothing is learned on a CPU, for as many images at a time as its cache holds."""
        images = len(keys)
        query = exponential(Unrolled.linear(hidden, self.query.weight)).view(
            images, -1, keys.shape[2]
        )  # (images, n, size)
        whole = torch.is_grad_enabled() or keys.is_cuda
        at_once = images if whole else max(1, SCRATCH_VALUES // (keys[0].numel() * query.shape[1]))
        parts = (slice(begin, begin + at_once) for begin in range(0, images, at_once))
        return torch.cat([self.energies(keys[part].unsqueeze(1), query[part].unsqueeze(2)) for part in parts])

    def energies(self, keys: Tensor, queries: Tensor) -> Tensor:
        """The scores of pairs of keys and queries, both exponentials, of shapes (…, size) that broadcast: (…,)."""
        energies: Tensor = _Energies.apply(keys, queries, self.energy.weight[0].to(keys.dtype))  # type: ignore[no-untyped-call]
        return energies


class _Energies(Function):
    """-2 Σ_d w_d / (1 + k_d q_d), whose gradients reuse the quotients: half the passes over memory."""

    @staticmethod
    def forward(ctx: Any, keys: Tensor, queries: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN401
        share = (keys * queries).add_(1).reciprocal_()
        ctx.save_for_backward(keys, queries, weight, share)
        with torch.autocast(keys.device.type, enabled=False):
            return share @ (-2 * weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401
        keys, queries, weight, share = ctx.saved_tensors
        of_weight = -2 * (gradient.flatten() @ share.flatten(0, -2))
        slope = share.square().mul_(gradient.unsqueeze(-1))  # but for 2 w, which comes after the sums
        of_keys = (slope * queries).sum_to_size(keys.shape) * (2 * weight)
        of_queries = slope.mul_(keys).sum_to_size(queries.shape) * (2 * weight)
        return of_keys, of_queries, of_weight


def exponential(x: Tensor) -> Tensor:
    """e^2x, at least in float32."""
    return (2 * x.to(torch.promote_types(x.dtype, torch.float32)).clamp(-LARGEST, LARGEST)).exp()
