"""Attention over the feature grid: additive, multiplicative, multi-head and hard."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from captioner.models.decoder.ops import Linear, Unrolled, linear
from captioner.models.decoder.ragged import Layout


class AttentionOutput(NamedTuple):
    """The outcome of looking at a picture.

    Attributes:
        context: What was seen, shape (sentences, context_size).
        weights: Where, shape (sentences, cells), rows sum to 1.
        chosen: Logarithm of the weight of the cell that was drawn, shape (sentences,); None where none is drawn.
    """

    context: Tensor
    weights: Tensor
    chosen: Tensor | None = None


class GridAttention(nn.Module):
    """Attention whose weights p are the softmax over the cells of a score, and whose context is gated.

    The context is z = β Σ p_i v_i with the gate β = σ(w_β h + b_β), a number that lets a word such as "of" ignore the
    picture (Show, Attend and Tell, section 4.2.1). Subclasses say what the score is.

    Args:
        channels: Length of a feature vector.
        hidden_size: Length of the decoder's hidden state.
        size: Length of the space in which both are compared.
    """

    context_size: int
    """Length of the context."""
    mixes_features = True
    """Whether the context is a weighted mean of the cells' vectors, whatever these are."""

    def __init__(self, channels: int, hidden_size: int, size: int) -> None:
        super().__init__()
        self.context_size = channels
        self.key = Linear(channels, size)
        self.query = Linear(hidden_size, size, bias=False)
        self.gate = Linear(hidden_size, 1)

    def keys(self, grid: Tensor) -> Tensor:
        """What no word changes of the scores.

        Args:
            grid: Feature vectors, shape (images, cells, channels).

        Returns:
            Shape (images, cells, size); with several heads, what they mix stands beside it.
        """
        keys: Tensor = self.key(grid)
        return keys

    def queries(self, hidden: Tensor) -> Tensor:
        """What a sentence asks of the cells: from the state (sentences, hidden_size) to (sentences, size)."""
        return Unrolled.linear(hidden, self.query.weight)

    def compare(self, queries: Tensor, keys: Tensor) -> Tensor:
        """How much each cell matters, up to a number that all cells of a sentence share.

        Args:
            queries: Of the sentences of each image, shape (images, sentences an image, size).
            keys: What `keys` returned.

        Returns:
            Shape (images, sentences an image, cells).
        """
        raise NotImplementedError

    def forward(self, hidden: Tensor, keys: Tensor, values: Tensor, layout: Layout) -> AttentionOutput:
        """Looks at the image of each sentence.

        Args:
            hidden: The decoder's state, shape (sentences, hidden_size).
            keys: What `keys` returned.
            values: The vectors v_i that are mixed, shape (images, cells, size of the context).
            layout: How the sentences stand beside the images.

        Returns:
            The gated context, and the weights p.
        """
        weights = self.compare(layout.to_block(self.queries(hidden)), keys).softmax(-1)
        context = layout.to_sentences(Unrolled.matmul(weights, values))
        return AttentionOutput(self.gated(context, hidden), layout.to_sentences(weights))

    def gated(self, context: Tensor, hidden: Tensor) -> Tensor:
        """β z for a context z, shape (sentences, context_size)."""
        return torch.sigmoid(self.gate(hidden)) * context


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
    images, regions, size = keys.shape
    at_once = images if keys.is_cuda else max(1, SCRATCH_VALUES // (regions * size * queries.shape[1]))
    return [slice(begin, begin + at_once) for begin in range(0, images, at_once)]


def exponential(x: Tensor) -> Tensor:
    """e^2x, at least in float32."""
    return (2 * x.to(torch.promote_types(x.dtype, torch.float32)).clamp(-LARGEST, LARGEST)).exp()


class MultiplicativeAttention(GridAttention):
    """The score of a cell is (W_h h)ᵀ (W_v v_i + b_v) / √size.

    This is hᵀ W v (Luong et al., 2015, "general") with W = W_hᵀ W_v of low rank, scaled so that its spread does not
    grow with the size (Vaswani et al., 2017).
    """

    def keys(self, grid: Tensor) -> Tensor:
        """(W_v v_i + b_v) / √size, as columns: shape (images, size, cells)."""
        keys = super().keys(grid)
        return keys.mT / math.sqrt(keys.shape[2])

    def compare(self, queries: Tensor, keys: Tensor) -> Tensor:
        """The equation above."""
        return Unrolled.matmul(queries, keys)


class MultiHeadAttention(GridAttention):
    """Several multiplicative attentions side by side (Vaswani et al., 2017).

    Head j compares in its own part of the space and sees its own projection: z_j = W_j Σ p_{j,i} v_i. The context is
    all z_j in a row, and the weights shown are the mean over the heads.

    Args:
        channels: Length of a feature vector.
        hidden_size: Length of the decoder's hidden state.
        size: Length of the space of all heads together, a multiple of their number.
        heads: How many.
    """

    mixes_features = False

    def __init__(self, channels: int, hidden_size: int, size: int, heads: int) -> None:
        super().__init__(channels, hidden_size, size)
        self.heads = heads
        self.context_size = size
        self.value = nn.Parameter(torch.empty(heads, size // heads, channels))
        bound = 1 / math.sqrt(channels)  # as in nn.Linear
        nn.init.uniform_(self.value, -bound, bound)

    def keys(self, grid: Tensor) -> Tensor:
        """Of each cell, keys of all heads and then values W_j v_i of all heads.

        A projection of a mixture is the mixture of projections, and a picture has about as many words as cells.
        """
        return torch.cat([super().keys(grid), linear(grid, self.value.flatten(0, 1))], dim=-1)

    def forward(self, hidden: Tensor, keys: Tensor, values: Tensor, layout: Layout) -> AttentionOutput:
        """Looks at the image of each sentence, with every head."""
        images, regions, _ = keys.shape
        size = self.context_size
        key, value = keys.view(images, regions, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        query = layout.to_block(self.queries(hidden)).view(images, -1, self.heads, size // self.heads)
        scores = query.transpose(1, 2) @ key.transpose(2, 3) / math.sqrt(size // self.heads)
        weights = scores.softmax(-1)  # (images, heads, n, cells)
        context = layout.to_sentences((weights @ value).transpose(1, 2).reshape(images, -1, size))
        return AttentionOutput(self.gated(context, hidden), layout.to_sentences(weights.mean(dim=1)))


class HardAttention(AdditiveAttention):
    """Stochastic "hard" attention: the context is β v_s of a single cell s (Show, Attend and Tell, section 4.1).

    While it learns, s is drawn from the weights p, and since no gradient flows through a draw, p learns by REINFORCE
    (`captioner.training.module.objectives.location.location_loss`). When it writes, s is the likeliest cell, so that
    captions do not depend on luck.
    """

    def forward(self, hidden: Tensor, keys: Tensor, values: Tensor, layout: Layout) -> AttentionOutput:
        """Looks at one cell of the image of each sentence."""
        scores = self.compare(layout.to_block(self.queries(hidden)), keys)  # (images, n, cells)
        logarithms = scores.log_softmax(-1)
        weights = logarithms.exp()
        if self.training:
            # As `multinomial` draws, which raises an error of its own where training has diverged.
            regions = (weights.detach() / torch.empty_like(weights).exponential_()).argmax(-1, keepdim=True)
        else:
            regions = weights.argmax(-1, keepdim=True)
        context = layout.to_sentences(values.gather(1, regions.expand(-1, -1, values.shape[2])))
        chosen = layout.to_sentences(logarithms.gather(2, regions)).squeeze(1)
        return AttentionOutput(self.gated(context, hidden), layout.to_sentences(weights), chosen)
