"""Adaptive attention: a decoder that knows when not to look."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import relu

from captioner.decoder.additive import AdditiveAttention, exponential
from captioner.decoder.config import DecoderConfig
from captioner.decoder.core import Advanced, Core, add_update
from captioner.decoder.products import Linear
from captioner.decoder.state import State
from captioner.decoder.unrolled import Unrolled


class AdaptiveCore(Core):
    """Remembers, then looks at the cells and at a visual sentinel (Lu et al., 2017, "Knowing When to Look").

    The sentinel s_t = σ(W_x x_t + W_h h_{t-1}) · tanh(c_t) is what the decoder knows without looking. It competes with
    the cells: (p_t, β_t) is the softmax over the scores of cells and sentinel, each wᵀ tanh(W_· · + W_h h_t), and the
    output is W (Σ p_{t,i} relu(V v_i) + β_t s_t + h_t). β_t is the attention's last column.
    """

    def __init__(self, config: DecoderConfig, channels: int) -> None:
        super().__init__(config, channels)
        size = config.hidden_size
        del self.context  # what is seen enters after the recurrence, not before
        assert isinstance(self.attention, AdditiveAttention)
        del self.attention.gate  # the sentinel is the gate
        self.value = Linear(channels, size)
        self.sentinel_word = Linear(config.embedding_size, size)
        self.sentinel_state = Linear(size, size, bias=False)
        self.sentinel_key = Linear(size, config.attention_size)
        self.mix = Linear(size, size)

    def values(self, grid: Tensor) -> Tensor:
        """relu(V v_i), which can be mixed with the sentinel."""
        return relu(self.value(grid))

    def project(self, embedded: Tensor) -> Tensor:
        """What a word changes of the gates, and of the sentinel after them."""
        return torch.cat([super().project(embedded), self.sentinel_word(embedded)], dim=-1)

    def advance(self, projected: Tensor, state: State, grid: Tensor) -> Advanced:
        """Reads one word, then looks."""
        size, seen, layout = self.config.hidden_size, state.seen, state.layout
        assert isinstance(self.attention, AdditiveAttention)
        assert seen.keys is not None
        assert seen.values is not None
        update, sentinel_word = projected[:, :-size], projected[:, -size:]
        memory = self.cells.step(add_update(update, state), state.memory, state.masks)
        hidden, cell = memory[0][:, -1], memory[1][:, -1]
        sentinel = torch.sigmoid(sentinel_word + self.sentinel_state(state.hidden[:, -1])) * torch.tanh(cell)
        queries = self.attention.queries(hidden)
        cells = layout.to_sentences(self.attention.compare(layout.to_block(queries), seen.keys))
        looking_away = self.attention.compare_pairs(queries, exponential(self.sentinel_key(sentinel)))
        weights = torch.cat([cells, looking_away.unsqueeze(1)], dim=1).softmax(1)
        context = layout.to_sentences(Unrolled.matmul(layout.to_block(weights[:, :-1]), seen.values))
        known = weights[:, -1:].to(sentinel.dtype) * sentinel
        return Advanced(state._replace(memory=memory), self.mix(context + known + hidden), weights)
