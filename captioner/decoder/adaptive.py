"""Adaptive attention: a decoder that knows when not to look."""

from __future__ import annotations

import torch
from torch import Tensor

from captioner.decoder.additive import AdditiveAttention, exponential
from captioner.decoder.config import DecoderConfig
from captioner.decoder.core import Advanced
from captioner.decoder.products import Linear
from captioner.decoder.spatial import SpatialCore
from captioner.decoder.state import State
from captioner.decoder.unrolled import Unrolled


class AdaptiveCore(SpatialCore):
    """Looks at the cells and at a visual sentinel (Lu et al., 2017, "Knowing When to Look").

    The sentinel s_t = σ(W_x x_t + W_h h_{t-1}) · tanh(c_t) is what the decoder knows without looking. It competes with
    the cells: (p_t, β_t) is the softmax over the scores of cells and sentinel, each wᵀ tanh(W_· · + W_h h_t), and the
    output is W (Σ p_{t,i} relu(V v_i) + β_t s_t + h_t). β_t is the attention's last column.
    """

    def __init__(self, config: DecoderConfig, channels: int) -> None:
        super().__init__(config, channels)
        size = config.hidden_size
        self.sentinel_word = Linear(config.embedding_size, size)
        self.sentinel_state = Linear(size, size, bias=False)
        self.sentinel_key = Linear(size, config.attention_size)

    def project(self, embedded: Tensor) -> Tensor:
        """What a word changes of the gates, and of the sentinel after them."""
        return torch.cat([super().project(embedded), self.sentinel_word(embedded)], dim=-1)

    def advance(self, projected: Tensor, state: State, grid: Tensor) -> Advanced:
        """Reads one word: h_t, and s_t beside it."""
        size = self.config.hidden_size
        read = super().advance(projected[:, :-size], state, grid)
        gate = torch.sigmoid(projected[:, -size:] + Unrolled.linear(state.hidden[:, -1], self.sentinel_state.weight))
        sentinel = gate * torch.tanh(read.state.memory[1][:, -1])
        return read._replace(output=torch.cat([read.output, sentinel], dim=1))

    def tell(self, read: Advanced) -> Advanced:
        """Looks with every h_t, or trusts its s_t."""
        hidden, sentinel = read.output.chunk(2, dim=1)
        seen, layout = read.state.seen, read.state.layout
        assert isinstance(self.attention, AdditiveAttention)
        assert seen.keys is not None
        assert seen.values is not None
        queries = self.attention.queries(hidden)
        cells = layout.to_sentences(self.attention.compare(layout.to_block(queries), seen.keys))
        looking_away = self.attention.compare_pairs(queries, exponential(self.sentinel_key(sentinel)))
        weights = torch.cat([cells, looking_away.unsqueeze(1)], dim=1).softmax(1)
        context = layout.to_sentences(Unrolled.matmul(layout.to_block(weights[:, :-1]), seen.values))
        known = weights[:, -1:].to(sentinel.dtype) * sentinel
        return read._replace(output=self.mix(context + known + hidden), attention=weights)
