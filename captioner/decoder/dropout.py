"""Dropout whose masks cost little."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

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
