"""Where to look: soft attention over the grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SCRATCH_VALUES = 1 << 20
"""Numbers that comparing states with cells keeps at a time, 4 MB in float32: what a CPU's cache holds."""

LARGEST = 40.0
"""Where W_v v and W_h h are cut: e^(2 · 40) and its inverse are still float32 numbers, so that no product is 0 · ∞."""


class SoftAttention(nn.Module):
    """Additive soft attention with a gate.

    The score of a cell is wᵀ tanh(W_v v_i + W_h h) (Bahdanau et al., 2015), its weight p_i the softmax over the cells,
    and the context z = β Σ p_i v_i with the gate β = σ(w_β h + b_β), a number that lets a word such as "of" ignore the
    picture (Show, Attend and Tell, section 4.2.1).

    Since tanh(a + b) = 1 - 2 / (1 + e^2a e^2b), the exponentials of keys and queries are taken apart, before they meet:
    each pair of a cell and a sentence costs a product and a division where tanh took ten times as long on a CPU.

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
        """What no word changes of the scores: e^(2 W_v v_i) for each cell.

        Args:
            grid: Feature vectors, shape (images, cells, channels).

        Returns:
            Shape (images, cells, size), at least float32.
        """
        return _exponential(self.key(grid))

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
        query = _exponential(self.query(hidden)).view(images, -1, keys.shape[2])  # (images, n, size)
        whole = torch.is_grad_enabled() or grid.is_cuda
        at_once = images if whole else max(1, SCRATCH_VALUES // (keys[0].numel() * query.shape[1]))
        parts = (slice(begin, begin + at_once) for begin in range(0, images, at_once))
        energy = torch.cat([self._energy(keys[part], query[part]) for part in parts])
        weights = energy.softmax(-1)
        context = (weights.to(grid.dtype) @ grid).flatten(0, 1)
        return torch.sigmoid(self.gate(hidden)) * context, weights.flatten(0, 1)

    def _energy(self, keys: Tensor, query: Tensor) -> Tensor:
        """The scores of cells but for the constant Σ w, which cancels in the softmax, shape (images, n, cells)."""
        share = (keys.unsqueeze(1) * query.unsqueeze(2)).add_(1).reciprocal_()  # (images, n, cells, size)
        return share @ (-2 * self.energy.weight[0].to(share.dtype))


def _exponential(x: Tensor) -> Tensor:
    return (2 * x.to(torch.promote_types(x.dtype, torch.float32)).clamp(-LARGEST, LARGEST)).exp()
