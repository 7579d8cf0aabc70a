"""Spatial attention: a decoder that remembers first, then looks."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import relu

from captioner.decoder.config import DecoderConfig
from captioner.decoder.core import Advanced, Core, add_update
from captioner.decoder.products import Linear
from captioner.decoder.state import State
from captioner.decoder.unrolled import Unrolled


class SpatialCore(Core):
    """Asks with h_t, which has read the last word, and tells the next one from both (Lu et al., 2017, section 2.2).

    The output is W (Σ p_{t,i} relu(V v_i) + h_t) + b with the softmax p_t over the cells of the scores of h_t. What was
    seen enters no recurrence, so that all words of known captions look at once. Scores are products (Luong et al.,
    2015), where the paper adds.
    """

    def __init__(self, config: DecoderConfig, channels: int) -> None:
        super().__init__(config, channels)
        size = config.hidden_size
        assert self.attention is not None
        # What is seen enters after the recurrence, not before, and beside h_t, which can outweigh it.
        del self.context, self.attention.gate
        self.value = Linear(channels, size)
        self.mix = Linear(size, size)

    def values(self, grid: Tensor) -> Tensor:
        """relu(V v_i), as long as h."""
        return relu(self.value(grid))

    def advance(self, projected: Tensor, state: State, grid: Tensor) -> Advanced:
        """Reads one word; `tell` looks."""
        memory = self.cells.step(add_update(projected, state), state.memory, state.masks)
        return Advanced(state._replace(memory=memory), memory[0][:, -1])

    def tell(self, read: Advanced) -> Advanced:
        """Looks with every h_t."""
        hidden, seen, layout = read.output, read.state.seen, read.state.layout
        assert self.attention is not None
        assert seen.keys is not None
        assert seen.values is not None
        weights = self.attention.compare(layout.to_block(self.attention.queries(hidden)), seen.keys).softmax(-1)
        context = layout.to_sentences(Unrolled.matmul(weights, seen.values))
        return read._replace(output=self.mix(context + hidden), attention=layout.to_sentences(weights))
