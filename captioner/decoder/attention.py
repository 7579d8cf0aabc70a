"""Where to look: what all kinds of attention over the grid have in common."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from captioner.decoder.layout import Layout
from captioner.decoder.products import Linear
from captioner.decoder.unrolled import Unrolled


class Look(NamedTuple):
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

    def forward(self, hidden: Tensor, keys: Tensor, values: Tensor, layout: Layout) -> Look:
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
        return Look(self.gated(context, hidden), layout.to_sentences(weights))

    def gated(self, context: Tensor, hidden: Tensor) -> Tensor:
        """β z for a context z, shape (sentences, context_size)."""
        return torch.sigmoid(self.gate(hidden)) * context
