"""Soft attention that compares by addition."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from captioner.decoder.attention import GridAttention
from captioner.decoder.products import Linear

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
        self.energy = Linear(size, 1, bias=False)  # a bias would cancel in the softmax

    def keys(self, grid: Tensor) -> Tensor:
        """e^(2 (W_v v_i + b_v)) for each cell, at least float32."""
        return exponential(self.key(grid))

    def queries(self, hidden: Tensor) -> Tensor:
        """e^(2 W_h h) for each sentence, at least float32."""
        return exponential(super().queries(hidden))

    def compare(self, queries: Tensor, keys: Tensor) -> Tensor:
        """The equation above."""
        scores: Tensor = _Scores.apply(keys, queries, self._weight(keys))
        return scores

    def compare_pairs(self, queries: Tensor, keys: Tensor) -> Tensor:
        """The score of one key for each sentence: both of shape (sentences, size), scores of shape (sentences,)."""
        return _quotients(keys, queries) @ self._weight(keys)

    def _weight(self, keys: Tensor) -> Tensor:
        return -2 * self.energy.weight[0].to(keys.dtype)


class _Scores(Function):
    """Σ_d w_d / (1 + k_d q_d) for all pairs of the cells and the sentences of an image.

    On a CPU, as many images at a time as its cache holds; backward computes the quotients anew, since there they cost
    less than fetching them from memory.
    """

    @staticmethod
    def forward(ctx: Any, keys: Tensor, queries: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(keys, queries, weight)
        with torch.autocast(keys.device.type, enabled=False):
            parts = _parts(keys, queries)
            return torch.cat([_quotients(keys[p].unsqueeze(1), queries[p].unsqueeze(2)) @ weight for p in parts])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401
        keys, queries, weight = ctx.saved_tensors
        of_keys, of_queries, of_weight = torch.empty_like(keys), torch.empty_like(queries), torch.zeros_like(weight)
        for part in _parts(keys, queries):
            key, query = keys[part].unsqueeze(1), queries[part].unsqueeze(2)
            share = _quotients(key, query)  # (images, n, cells, size)
            of_weight += gradient[part].flatten() @ share.flatten(0, 2)
            # With s = 1 / (1 + k q), k ds/dk and q ds/dq are the same s² - s, so that one product serves both.
            slope = torch.addcmul(share, share, share, value=-1, out=share).mul_(gradient[part].unsqueeze(3))
            of_keys[part] = slope.sum(dim=1)
            of_queries[part] = slope.sum(dim=2)
        return of_keys.div_(keys).mul_(-weight), of_queries.div_(queries).mul_(-weight), of_weight


def _quotients(keys: Tensor, queries: Tensor) -> Tensor:
    """1 / (1 + k q) for all pairs."""
    return torch.addcmul(keys.new_ones(()), keys, queries).reciprocal_()


def _parts(keys: Tensor, queries: Tensor) -> list[slice]:
    """Images that are compared together."""
    images, cells, size = keys.shape
    at_once = images if keys.is_cuda else max(1, SCRATCH_VALUES // (cells * size * queries.shape[1]))
    return [slice(begin, begin + at_once) for begin in range(0, images, at_once)]


def exponential(x: Tensor) -> Tensor:
    """e^2x, at least in float32."""
    return (2 * x.to(torch.promote_types(x.dtype, torch.float32)).clamp(-LARGEST, LARGEST)).exp()
