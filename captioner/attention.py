"""Where to look: soft attention over the grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SoftAttention(nn.Module):
    """Additive soft attention with a gate.

    The score of a cell is wᵀ tanh(W_v v_i + W_h h) (Bahdanau et al., 2015), its weight p_i the softmax over the cells,
    and the context z = β Σ p_i v_i with the gate β = σ(w_β h + b_β), a number that lets a word such as "of" ignore the
    picture (Show, Attend and Tell, section 4.2.1).

    Args:
        channels: Length of a feature vector.
        hidden_size: Length of the decoder's hidden state.
        size: Length of the space in which both are compared.
    """

    def __init__(self, channels: int, hidden_size: int, size: int) -> None:
        super().__init__()
        self.key = nn.Linear(channels, size)
        self.query = nn.Linear(hidden_size, size, bias=False)
        self.energy = nn.Linear(size, 1, bias=False)  # a bias would cancel in the softmax
        self.gate = nn.Linear(hidden_size, 1)

    def keys(self, grid: Tensor) -> Tensor:
        """W_v v_i for each cell: the part that no word changes.

        Args:
            grid: Feature vectors, shape (images, cells, channels).

        Returns:
            Shape (images, cells, size).
        """
        keys: Tensor = self.key(grid)
        return keys

    def forward(self, hidden: Tensor, keys: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Looks at the image of each sentence.

        Args:
            hidden: The decoder's state, shape (sentences, hidden_size). The sentences of an image stand side by side,
                equally many for each image.
            keys: What `keys` returned, shape (images, cells, size).
            grid: Feature vectors, shape (images, cells, channels).

        Returns:
            The gated context, shape (sentences, channels), and the weights p, shape (sentences, cells), rows sum to 1.
        """
        images = len(grid)
        query = self.query(hidden).unflatten(0, (images, -1))  # (images, n, size)
        energy = self.energy(torch.tanh(keys.unsqueeze(1) + query.unsqueeze(2))).squeeze(-1)  # (images, n, cells)
        weights = energy.softmax(-1)
        context = (weights.to(grid.dtype) @ grid).flatten(0, 1)
        return torch.sigmoid(self.gate(hidden)) * context, weights.flatten(0, 1)
