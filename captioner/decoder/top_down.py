"""Top-down attention: a recurrent network that looks, under one that writes."""

from __future__ import annotations

from torch import Tensor

from captioner.decoder.cells import stack_layers
from captioner.decoder.config import DecoderConfig
from captioner.decoder.core import Advanced, Core, add_update
from captioner.decoder.products import Linear
from captioner.decoder.state import State
from captioner.decoder.unrolled import Unrolled


class TopDownCore(Core):
    """Two recurrent layers, with the attention between them (Anderson et al., 2018), on the cells of a grid.

    The lower reads the word, the upper one's h²_{t-1} and, with ``every_step`` as in the paper, the mean feature
    vector; its h¹_t says where to look; the upper reads what was seen and h¹_t, and its h²_t is the output.
    """

    def __init__(self, config: DecoderConfig, channels: int) -> None:
        super().__init__(config, channels, layers=2)
        self.feedback = Linear(config.hidden_size, self.cells.gates * config.hidden_size, bias=False)

    def advance(self, projected: Tensor, state: State, grid: Tensor) -> Advanced:
        """Reads one word: the lower layer, a look, the upper layer."""
        cells, masks = self.cells, state.masks
        heard = state.hidden[:, 1] if masks is None else state.hidden[:, 1] * masks[:, 0, 1]
        lower = cells.step_layer(
            0, add_update(projected, state) + Unrolled.linear(heard, self.feedback.weight), state.memory, masks
        )
        update, attention, chosen = self.look(lower[0], state, grid)
        upper = cells.step_layer(1, cells.rise(lower[0], 1, masks) + update, state.memory, masks)
        return Advanced(state._replace(memory=stack_layers([lower, upper])), upper[0], attention, chosen)
