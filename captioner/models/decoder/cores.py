"""Decoder cores: the order in which a step attends to the image and updates the recurrent state."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from captioner.models.decoder.attention import (
    AdditiveAttention,
    AttentionOutput,
    GridAttention,
    HardAttention,
    MultiHeadAttention,
    MultiplicativeAttention,
    exponential,
)
from captioner.models.decoder.config import DecoderConfig
from captioner.models.decoder.ops import Linear, Unrolled
from captioner.models.decoder.ragged import Layout
from captioner.models.decoder.rnn import CELLS, stack_layers
from captioner.models.decoder.state import KeyValueCache, State

FEW_REGIONS = 64
"""Up to how many cells of a grid it is cheaper to multiply each by W_z than each context: captions of five to an image,
or beams of five, have about as many words."""


class CoreOutput(NamedTuple):
    """The outcome of one step, or of several at once, whose words then stand as sentences do in one.

    Attributes:
        state: The state after the word.
        output: What the next word is told from, shape (sentences, hidden_size); before `Core.compute_output`, what that
            needs.
        attention: Weights over the cells, as in `captioner.models.decoder.state.Step`.
        chosen: As in `captioner.models.decoder.attention.AttentionOutput`.
    """

    state: State
    output: Tensor
    attention: Tensor | None = None
    chosen: Tensor | None = None


class Core(nn.Module):
    """Looks, if it has attention, then remembers (Show, Attend and Tell); subclasses have other orders.

    The context z of h_{t-1} enters the lowest layer beside the word: W_x x + W_z z + W_h h + b, and so does, with
    ``every_step``, the mean feature vector. The output is the top layer's h_t.

    Args:
        config: Its shape.
        channels: Length of the encoder's feature vectors.
        layers: Recurrent layers; the configuration's by default.
    """

    def __init__(self, config: DecoderConfig, channels: int, layers: int | None = None) -> None:
        super().__init__()
        self.config = config
        layers = config.layers if layers is None else layers
        self.cells = CELLS[config.cell](config.embedding_size, config.hidden_size, layers, config.dropout)
        self.attention = make_attention(config, channels)
        update_size = self.cells.gates * config.hidden_size
        if self.attention is not None:
            # The columns of the lowest W_x that multiply the context; the words' columns are in the cells.
            self.context = Linear(self.attention.context_size, update_size, bias=False)
        if config.image_input == "every_step":
            self.image_update = Linear(channels, update_size, bias=False)
        elif config.image_input == "first_word":
            self.image_word = Linear(channels, config.embedding_size)
        elif config.image_input == "initial_state":
            self.initial_state = Linear(channels, self.cells.parts * layers * config.hidden_size)

    def fuses(self, state: State) -> bool:
        """Whether known sentences need no loop over their words: nothing but words enters, and no mask along time."""
        return self.cells.fused and self.attention is None and state.cache.update is None and state.masks is None

    def start(self, grid: Tensor) -> State:
        """Shows the pictures, shape (images, cells, channels), before any word: the state of a sentence for each."""
        config = self.config
        cache = self.cache_image(grid)
        shape = (len(grid), self.cells.num_layers, config.hidden_size)
        if config.image_input == "initial_state":
            parts = torch.tanh(self.initial_state(mean_of_regions(grid))).chunk(self.cells.parts, dim=1)
            return State(tuple(part.reshape(shape) for part in parts), cache, Layout(len(grid)))
        nothing = tuple(self.cells.weights(0)[0].new_zeros(shape) for _ in range(self.cells.parts))
        state = State(nothing, cache, Layout(len(grid)))
        if config.image_input == "first_word":
            return self.advance(self.project(self.image_word(mean_of_regions(grid))), state, grid).state
        return state

    def cache_image(self, grid: Tensor) -> KeyValueCache:
        """What is computed once an image."""
        every_step = self.config.image_input == "every_step"
        return KeyValueCache(
            keys=None if self.attention is None else self.attention.keys(grid),
            values=self.values(grid),
            update=self.image_update(mean_of_regions(grid)) if every_step else None,
        )

    def values(self, grid: Tensor) -> Tensor | None:
        """What attention mixes, if not the grid itself: W_z v_i, as W_z Σ p_i v_i = Σ p_i W_z v_i."""
        if self.attention is None or not self.attention.mixes_features or grid.shape[1] > FEW_REGIONS:
            return None
        values: Tensor = self.context(grid)
        return values

    def project(self, embedded: Tensor) -> Tensor:
        """What a word changes by itself, for any number of words: (…, embedding_size) → (…, size)."""
        return self.cells.project(embedded)

    def advance(self, projected: Tensor, state: State, grid: Tensor) -> CoreOutput:
        """Reads one word.

        Args:
            projected: What `project` made of the word, shape (sentences, size).
            state: The state after the words before it.
            grid: Feature vectors, shape (images, cells, channels).
        """
        projected = add_update(projected, state)
        attention = chosen = None
        if self.attention is not None:
            update, attention, chosen = self.attend(state.hidden[:, -1], state, grid)
            projected = projected + update
        recurrent = self.cells.step(projected, state.recurrent, state.masks)
        return CoreOutput(state._replace(recurrent=recurrent), recurrent[0][:, -1], attention, chosen)

    def compute_output(self, result: CoreOutput) -> CoreOutput:
        """What is left to do for the outputs of any number of words at once: nothing, once it has looked."""
        return result

    def attend(self, hidden: Tensor, state: State, grid: Tensor) -> AttentionOutput:
        """Looks at the grid with h, shape (sentences, hidden_size); the context is multiplied by W_z."""
        cache = state.cache
        assert self.attention is not None
        assert cache.keys is not None
        if cache.values is not None:
            attended: AttentionOutput = self.attention(hidden, cache.keys, cache.values, state.layout)
            return attended
        attended = self.attention(hidden, cache.keys, grid, state.layout)
        return attended._replace(context=Unrolled.linear(attended.context, self.context.weight))

    def unroll(self, embedded: Tensor, state: State, grid: Tensor) -> tuple[Tensor, State]:
        """Reads many words that are known.

        Args:
            embedded: Their vectors, shape (sentences, steps, embedding_size).
            state: The state after the words before them.
            grid: Feature vectors, shape (images, cells, channels).

        Returns:
            The output after each, shape (sentences, steps, hidden_size), and the state after the last.
        """
        if self.fuses(state):
            outputs, recurrent = self.cells.unroll(embedded, state.recurrent)
            return outputs, state._replace(recurrent=recurrent)
        steps = []
        with Unrolled():
            for projected in self.project(embedded).unbind(dim=1):
                state, output, *_ = self.compute_output(self.advance(projected, state, grid))
                steps.append(output)
        return torch.stack(steps, dim=1), state


def add_update(projected: Tensor, state: State) -> Tensor:
    """Adds the picture's share of the update, if it has one, to that of each of its sentences."""
    if state.cache.update is None:
        return projected
    return state.layout.to_sentences(state.layout.to_block(projected) + state.cache.update.unsqueeze(1))


def mean_of_regions(grid: Tensor) -> Tensor:
    """The mean feature vector, shape (images, channels)."""
    if grid.dtype != torch.bfloat16:
        return grid.mean(dim=1)
    # torch takes four times as long to sum bfloat16.
    return (grid.new_ones(1, 1, grid.shape[1]).expand(len(grid), -1, -1) @ grid).squeeze(1) / grid.shape[1]


def make_attention(config: DecoderConfig, channels: int) -> GridAttention | None:
    """The attention that a configuration names."""
    sizes = (channels, config.hidden_size, config.attention_size)
    if config.attention == "none":
        return None
    if config.attention in ("multiplicative", "spatial"):
        return MultiplicativeAttention(*sizes)
    if config.attention == "multi_head":
        return MultiHeadAttention(*sizes, config.heads)
    if config.attention == "hard":
        return HardAttention(*sizes)
    return AdditiveAttention(*sizes)


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

    def advance(self, projected: Tensor, state: State, grid: Tensor) -> CoreOutput:
        """Reads one word; `compute_output` looks."""
        recurrent = self.cells.step(add_update(projected, state), state.recurrent, state.masks)
        return CoreOutput(state._replace(recurrent=recurrent), recurrent[0][:, -1])

    def compute_output(self, result: CoreOutput) -> CoreOutput:
        """Looks with every h_t."""
        hidden, cache, layout = result.output, result.state.cache, result.state.layout
        assert self.attention is not None
        assert cache.keys is not None
        assert cache.values is not None
        weights = self.attention.compare(layout.to_block(self.attention.queries(hidden)), cache.keys).softmax(-1)
        context = layout.to_sentences(Unrolled.matmul(weights, cache.values))
        return result._replace(output=self.mix(context + hidden), attention=layout.to_sentences(weights))


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

    def advance(self, projected: Tensor, state: State, grid: Tensor) -> CoreOutput:
        """Reads one word: h_t, and s_t beside it."""
        size = self.config.hidden_size
        result = super().advance(projected[:, :-size], state, grid)
        gate = torch.sigmoid(projected[:, -size:] + Unrolled.linear(state.hidden[:, -1], self.sentinel_state.weight))
        sentinel = gate * torch.tanh(result.state.recurrent[1][:, -1])
        return result._replace(output=torch.cat([result.output, sentinel], dim=1))

    def compute_output(self, result: CoreOutput) -> CoreOutput:
        """Looks with every h_t, or trusts its s_t."""
        hidden, sentinel = result.output.chunk(2, dim=1)
        cache, layout = result.state.cache, result.state.layout
        assert isinstance(self.attention, AdditiveAttention)
        assert cache.keys is not None
        assert cache.values is not None
        queries = self.attention.queries(hidden)
        regions = layout.to_sentences(self.attention.compare(layout.to_block(queries), cache.keys))
        sentinel_score = self.attention.compare_pairs(queries, exponential(self.sentinel_key(sentinel)))
        weights = torch.cat([regions, sentinel_score.unsqueeze(1)], dim=1).softmax(1)
        context = layout.to_sentences(Unrolled.matmul(layout.to_block(weights[:, :-1]), cache.values))
        known = weights[:, -1:].to(sentinel.dtype) * sentinel
        return result._replace(output=self.mix(context + known + hidden), attention=weights)


class TopDownCore(Core):
    """Two recurrent layers, with the attention between them (Anderson et al., 2018), on the cells of a grid.

    The lower reads the word, the upper one's h²_{t-1} and, with ``every_step`` as in the paper, the mean feature
    vector; its h¹_t says where to look; the upper reads what was seen and h¹_t, and its h²_t is the output.
    """

    def __init__(self, config: DecoderConfig, channels: int) -> None:
        super().__init__(config, channels, layers=2)
        self.feedback = Linear(config.hidden_size, self.cells.gates * config.hidden_size, bias=False)

    def advance(self, projected: Tensor, state: State, grid: Tensor) -> CoreOutput:
        """Reads one word: the lower layer, a look, the upper layer."""
        cells, masks = self.cells, state.masks
        heard = state.hidden[:, 1] if masks is None else state.hidden[:, 1] * masks[:, 0, 1]
        lower = cells.step_layer(
            0, add_update(projected, state) + Unrolled.linear(heard, self.feedback.weight), state.recurrent, masks
        )
        update, attention, chosen = self.attend(lower[0], state, grid)
        upper = cells.step_layer(1, cells.rise(lower[0], 1, masks) + update, state.recurrent, masks)
        return CoreOutput(state._replace(recurrent=stack_layers([lower, upper])), upper[0], attention, chosen)
