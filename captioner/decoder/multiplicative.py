"""Attention that compares by a product, in one way or in several at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from captioner.decoder.attention import GridAttention, Look
from captioner.decoder.layout import Layout
from captioner.decoder.products import linear
from captioner.decoder.unrolled import Unrolled


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

    def forward(self, hidden: Tensor, keys: Tensor, values: Tensor, layout: Layout) -> Look:
        """Looks at the image of each sentence, with every head."""
        images, cells, _ = keys.shape
        size = self.context_size
        key, value = keys.view(images, cells, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        query = layout.to_block(self.queries(hidden)).view(images, -1, self.heads, size // self.heads)
        scores = query.transpose(1, 2) @ key.transpose(2, 3) / math.sqrt(size // self.heads)
        weights = scores.softmax(-1)  # (images, heads, n, cells)
        context = layout.to_sentences((weights @ value).transpose(1, 2).reshape(images, -1, size))
        return Look(self.gated(context, hidden), layout.to_sentences(weights.mean(dim=1)))
