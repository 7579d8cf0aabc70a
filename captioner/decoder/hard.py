"""Attention that looks at one cell."""

from __future__ import annotations

import torch
from torch import Tensor

from captioner.decoder.additive import AdditiveAttention
from captioner.decoder.attention import Look
from captioner.decoder.layout import Layout


class HardAttention(AdditiveAttention):
    """Stochastic "hard" attention: the context is β v_s of a single cell s (Show, Attend and Tell, section 4.1).

    While it learns, s is drawn from the weights p, and since no gradient flows through a draw, p learns by REINFORCE
    (`captioner.losses.location_loss`). When it writes, s is the likeliest cell, so that captions do not depend on luck.
    """

    def forward(self, hidden: Tensor, keys: Tensor, values: Tensor, layout: Layout) -> Look:
        """Looks at one cell of the image of each sentence."""
        scores = self.compare(layout.to_block(self.queries(hidden)), keys)  # (images, n, cells)
        logarithms = scores.log_softmax(-1)
        weights = logarithms.exp()
        if self.training:
            # As `multinomial` draws, which raises an error of its own where training has diverged.
            cells = (weights.detach() / torch.empty_like(weights).exponential_()).argmax(-1, keepdim=True)
        else:
            cells = weights.argmax(-1, keepdim=True)
        context = layout.to_sentences(values.gather(1, cells.expand(-1, -1, values.shape[2])))
        chosen = layout.to_sentences(logarithms.gather(2, cells)).squeeze(1)
        return Look(self.gated(context, hidden), layout.to_sentences(weights), chosen)
