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
"""Up to this many regions of a grid, multiplying each of them by W_z is cheaper than multiplying each context: five
captions of an image, or a beam of five, have about as many tokens."""


class CoreOutput(NamedTuple):
    """The result of one step, or of several at once, whose tokens then take the place of sentences.

    Attributes:
        state: The state after the token.
        output: Input of the output layer, shape (sentences, hidden_size); before `Core.compute_output`, the input of
            that.
        attention: Attention weights, as in `captioner.models.decoder.state.Step`.
        chosen: As in `captioner.models.decoder.attention.AttentionOutput`.
    """

    state: State
    output: Tensor
    attention: Tensor | None = None
    chosen: Tensor | None = None


class Core(nn.Module):
    """Attention, if any, and then the recurrent update (Show, Attend and Tell); subclasses have other orders.

    The context z of h_{t-1} enters the lowest layer beside the word vector: W_x x + W_z z + W_h h + b, and so does the
    mean feature vector with ``every_step``. The output is the top layer's h_t.

    Args:
        config: Configuration of the decoder.
        channels: Length of the encoder's feature vectors.
        layers: Number of recurrent layers; the configuration's by default.
    """

    def __init__(self, config: DecoderConfig, channels: int, layers: int | None = None) -> None:
        super().__init__()
        self.config = config
        layers = config.layers if layers is None else layers
        self.cells = CELLS[config.cell](config.embedding_size, config.hidden_size, layers, config.dropout)
        self.attention = make_attention(config, channels)
        update_size = self.cells.gates * config.hidden_size
        if self.attention is not None:
            # The columns of the lowest W_x that multiply the context; those of the word vectors are in `cells`.
            self.context = Linear(self.attention.context_size, update_size, bias=False)
        if config.image_input == "every_step":
            self.image_update = Linear(channels, update_size, bias=False)
        elif config.image_input == "first_word":
            self.image_word = Linear(channels, config.embedding_size)
        elif config.image_input == "initial_state":
            self.initial_state = Linear(channels, self.cells.parts * layers * config.hidden_size)

    def fuses(self, state: State) -> bool:
        """Whether known sentences need no loop over tokens: only word vectors enter, and no mask along time."""
        return self.cells.fused and self.attention is None and state.cache.update is None and state.masks is None

    def start(self, grid: Tensor) -> State:
        """Compute the initial state, one sentence per image, from a grid of shape (images, regions, channels)."""
        config = self.config
        cache = self.cache_image(grid)
        images = grid.shape[0]  # unlike len(), it stays free in a graph that is traced
        shape = (images, self.cells.num_layers, config.hidden_size)
        if config.image_input == "initial_state":
            parts = torch.tanh(self.initial_state(mean_of_regions(grid))).chunk(self.cells.parts, dim=1)
            return State(tuple(part.reshape(shape) for part in parts), cache, Layout(images))
        nothing = tuple(self.cells.weights(0)[0].new_zeros(shape) for _ in range(self.cells.parts))
        state = State(nothing, cache, Layout(images))
        if config.image_input == "first_word":
            return self.advance(self.project(self.image_word(mean_of_regions(grid))), state, grid).state
        return state

    def cache_image(self, grid: Tensor) -> KeyValueCache:
        """Compute the tensors that all steps of an image share."""
        every_step = self.config.image_input == "every_step"
        return KeyValueCache(
            keys=None if self.attention is None else self.attention.keys(grid),
            values=self.values(grid),
            update=self.image_update(mean_of_regions(grid)) if every_step else None,
        )

    def values(self, grid: Tensor) -> Tensor | None:
        """Values of the attention if not the grid itself: W_z v_i, as W_z Σ p_i v_i = Σ p_i W_z v_i."""
        if self.attention is None or not self.attention.mixes_features or grid.shape[1] > FEW_REGIONS:
            return None
        values: Tensor = self.context(grid)
        return values

    def project(self, embedded: Tensor) -> Tensor:
        """Project word vectors to their share of the update: (…, embedding_size) → (…, size)."""
        return self.cells.project(embedded)

    def advance(self, projected: Tensor, state: State, grid: Tensor) -> CoreOutput:
        """Advance every sentence by one token.

        Args:
            projected: Projected word vectors (see `project`), shape (sentences, size).
            state: The state after the previous tokens.
            grid: Feature vectors, shape (images, regions, channels).
        """
        projected = add_update(projected, state)
        attention = chosen = None
        if self.attention is not None:
            update, attention, chosen = self.attend(state.hidden[:, -1], state, grid)
            projected = projected + update
        recurrent = self.cells.step(projected, state.recurrent, state.masks)
        return CoreOutput(state._replace(recurrent=recurrent), recurrent[0][:, -1], attention, chosen)

    def compute_output(self, result: CoreOutput) -> CoreOutput:
        """Finish the outputs of any number of tokens at once; the identity where `advance` has done everything."""
        return result

    def attend(self, hidden: Tensor, state: State, grid: Tensor) -> AttentionOutput:
        """Attend to the grid with h, shape (sentences, hidden_size); the context is multiplied by W_z."""
        cache = state.cache
        assert self.attention is not None
        assert cache.keys is not None
        if cache.values is not None:
            attended: AttentionOutput = self.attention(hidden, cache.keys, cache.values, state.layout)
            return attended
        attended = self.attention(hidden, cache.keys, grid, state.layout)
        return attended._replace(context=Unrolled.linear(attended.context, self.context.weight))

    def unroll(self, embedded: Tensor, state: State, grid: Tensor) -> tuple[Tensor, State]:
        """Advance every sentence by several known tokens.

        Args:
            embedded: Word vectors, shape (sentences, steps, embedding_size).
            state: The state after the previous tokens.
            grid: Feature vectors, shape (images, regions, channels).

        Returns:
            The outputs, shape (sentences, steps, hidden_size), and the state after the last token.
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
    """Add the image's share of the update, if there is one, to each of its sentences."""
    if state.cache.update is None:
        return projected
    return state.layout.to_sentences(state.layout.to_block(projected) + state.cache.update.unsqueeze(1))


def mean_of_regions(grid: Tensor) -> Tensor:
    """Mean feature vector, shape (images, channels)."""
    if grid.dtype != torch.bfloat16:
        return grid.mean(dim=1)
    # torch's own sum takes four times as long in bfloat16.
    return (grid.new_ones(1, 1, grid.shape[1]).expand(len(grid), -1, -1) @ grid).squeeze(1) / grid.shape[1]


def make_attention(config: DecoderConfig, channels: int) -> GridAttention | None:
    """Build the attention of a configuration."""
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
    """Spatial attention: the query is h_t, the state after the last token (Lu et al., 2017, section 2.2).

    The output is W (Σ p_{t,i} relu(V v_i) + h_t) + b, where p_t is the softmax of the scores of h_t over the regions.
    The context does not enter the recurrence, so that all tokens of known captions attend at once. The scores are
    products (Luong et al., 2015), where the paper's are additive.
    """

    def __init__(self, config: DecoderConfig, channels: int) -> None:
        super().__init__(config, channels)
        size = config.hidden_size
        assert self.attention is not None
        # The context enters after the recurrence, not before, and beside h_t, which can outweigh it.
        del self.context, self.attention.gate
        self.value = Linear(channels, size)
        self.mix = Linear(size, size)

    def values(self, grid: Tensor) -> Tensor:
        """Compute relu(V v_i), as long as h."""
        return relu(self.value(grid))

    def advance(self, projected: Tensor, state: State, grid: Tensor) -> CoreOutput:
        """Advance the recurrent state; `compute_output` attends."""
        recurrent = self.cells.step(add_update(projected, state), state.recurrent, state.masks)
        return CoreOutput(state._replace(recurrent=recurrent), recurrent[0][:, -1])

    def compute_output(self, result: CoreOutput) -> CoreOutput:
        """Attend with every h_t."""
        hidden, cache, layout = result.output, result.state.cache, result.state.layout
        assert self.attention is not None
        assert cache.keys is not None
        assert cache.values is not None
        weights = self.attention.compare(layout.to_block(self.attention.queries(hidden)), cache.keys).softmax(-1)
        context = layout.to_sentences(Unrolled.matmul(weights, cache.values))
        return result._replace(output=self.mix(context + hidden), attention=layout.to_sentences(weights))


class AdaptiveCore(SpatialCore):
    """Adaptive attention over the regions and a visual sentinel (Lu et al., 2017, "Knowing When to Look").

    The sentinel s_t = σ(W_x x_t + W_h h_{t-1}) · tanh(c_t) holds what the decoder knows without the image. It competes
    with the regions: (p_t, β_t) is the softmax over the scores of regions and sentinel, each wᵀ tanh(W_· · + W_h h_t),
    and the output is W (Σ p_{t,i} relu(V v_i) + β_t s_t + h_t). β_t is the last column of the attention.
    """

    def __init__(self, config: DecoderConfig, channels: int) -> None:
        super().__init__(config, channels)
        size = config.hidden_size
        self.sentinel_word = Linear(config.embedding_size, size)
        self.sentinel_state = Linear(size, size, bias=False)
        self.sentinel_key = Linear(size, config.attention_size)

    def project(self, embedded: Tensor) -> Tensor:
        """Project word vectors to their share of the gates, followed by that of the sentinel."""
        return torch.cat([super().project(embedded), self.sentinel_word(embedded)], dim=-1)

    def advance(self, projected: Tensor, state: State, grid: Tensor) -> CoreOutput:
        """Advance the recurrent state; the output is h_t followed by s_t."""
        size = self.config.hidden_size
        result = super().advance(projected[:, :-size], state, grid)
        gate = torch.sigmoid(projected[:, -size:] + Unrolled.linear(state.hidden[:, -1], self.sentinel_state.weight))
        sentinel = gate * torch.tanh(result.state.recurrent[1][:, -1])
        return result._replace(output=torch.cat([result.output, sentinel], dim=1))

    def compute_output(self, result: CoreOutput) -> CoreOutput:
        """Attend with every h_t to the regions and to s_t."""
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
    """Top-down attention: two recurrent layers with attention between them (Anderson et al., 2018), on grid regions.

    The inputs of the lower layer are the word vector, the upper layer's h²_{t-1} and, with ``every_step`` as in the
    paper, the mean feature vector. Its h¹_t is the query. The inputs of the upper layer are the context and h¹_t; its
    h²_t is the output.
    """

    def __init__(self, config: DecoderConfig, channels: int) -> None:
        super().__init__(config, channels, layers=2)
        self.feedback = Linear(config.hidden_size, self.cells.gates * config.hidden_size, bias=False)

    def advance(self, projected: Tensor, state: State, grid: Tensor) -> CoreOutput:
        """Advance the lower layer, attend, and advance the upper layer."""
        cells, masks = self.cells, state.masks
        hidden = state.hidden[:, 1] if masks is None else state.hidden[:, 1] * masks[:, 0, 1]
        lower = cells.step_layer(
            0, add_update(projected, state) + Unrolled.linear(hidden, self.feedback.weight), state.recurrent, masks
        )
        update, attention, chosen = self.attend(lower[0], state, grid)
        upper = cells.step_layer(1, cells.project_up(lower[0], 1, masks) + update, state.recurrent, masks)
        return CoreOutput(state._replace(recurrent=stack_layers([lower, upper])), upper[0], attention, chosen)
