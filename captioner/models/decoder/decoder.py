"""The decoder: tokens in, logits of the next token out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captioner.models.decoder.concepts import Candidates, Concepts
from captioner.models.decoder.config import DecoderConfig
from captioner.models.decoder.cores import AdaptiveCore, Core, CoreOutput, SpatialCore, TopDownCore
from captioner.models.decoder.ops import Dropout, Linear, Unrolled, linear
from captioner.models.decoder.ragged import Packing
from captioner.models.decoder.state import State, Step, TeacherForced
from captioner.text.vocabulary import PAD
from captioner.utils.caching import Attached

_PROJECTED: Attached[Tensor] = Attached("projected")
"""Projections of all word vectors, shape (vocabulary, size)."""


class Decoder(nn.Module):
    """A recurrent language model conditioned on an image: word embedding, core and output layer.

    Args:
        config: Configuration of the decoder.
        channels: Length of the encoder's feature vectors.
        vocabulary_size: Number of tokens, the special ones included.
    """

    def __init__(self, config: DecoderConfig, channels: int, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        size = config.hidden_size
        self.embedding = nn.Embedding(vocabulary_size, config.embedding_size, padding_idx=PAD)
        cores: dict[str, type[Core]] = {"spatial": SpatialCore, "adaptive": AdaptiveCore, "top_down": TopDownCore}
        self.core = cores.get(config.attention, Core)(config, channels)
        self.concepts = None if config.concepts == "none" else Concepts(config, channels)
        self.dropout = Dropout(config.dropout)
        # A tied E needs the output in word-embedding space.
        needs_reduction = config.tied_embedding and size != config.embedding_size
        self.reduction = Linear(size, config.embedding_size, bias=False) if needs_reduction else nn.Identity()
        self.output = None if config.tied_embedding else Linear(size, vocabulary_size, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(vocabulary_size))
        with torch.no_grad():
            self.embedding.weight.uniform_(-0.1, 0.1)
            self.embedding.weight[PAD] = 0

    @property
    def members(self) -> tuple[Decoder]:
        """This decoder alone; `captioner.models.decoder.MemberDecoders` has several."""
        return (self,)

    @torch.no_grad()
    def project_tokens(self) -> None:
        """Precompute the projections of all word vectors; the weights must not change afterwards."""
        tokens = torch.arange(len(self.output_bias), device=self.output_bias.device)
        _PROJECTED.set(self, self.core.project(self._embed(tokens)))

    def start(self, grid: Tensor) -> State:
        """Compute the initial state.

        Args:
            grid: Feature vectors, shape (images, regions, channels); of no regions for a language model.

        Returns:
            The state of one sentence per image.
        """
        state = self.core.start(grid)
        if self.concepts is None:
            return state
        return state._replace(cache=state.cache._replace(concepts=self.concepts.start(grid)))

    def step(self, tokens: Tensor, state: State, grid: Tensor) -> Step:
        """Advance every sentence by one token.

        Args:
            tokens: Token ids, shape (sentences,).
            state: The state after the previous tokens.
            grid: Feature vectors, shape (images, regions, channels).

        Returns:
            Next-token logits, the new state, and the attention weights.
        """
        state, output, attention, _ = self.core.compute_output(self.core.advance(self._project(tokens), state, grid))
        concepts = state.cache.concepts
        if concepts is not None:
            concepts = concepts.select(state.layout.image(output.shape[0], output.device))
        return Step(self._next_logits(output, concepts, None), state, attention)

    def forward(self, grid: Tensor, captions: Tensor, inputs: Tensor | None = None) -> TeacherForced:
        """Predict each token of known captions from those before it (teacher forcing).

        The same computation as `step` in a loop, with everything that is known in advance done at once: the input
        projections of all tokens, the outputs of the real tokens only, and the whole recurrence where only tokens
        enter it.

        Args:
            grid: Feature vectors, shape (images, regions, channels).
            captions: Token ids, START first, END last, then PAD, shape (images, captions per image, length). Sorting
                images and captions by length, the longest first, is fastest.
            inputs: Input tokens if they differ from ``captions``, same shape. ``captions`` are then only targets, and
                those that are not learned may be negative.

        Returns:
            Logits and targets of the real tokens, and the attention weights.
        """
        real = captions[:, :, 1:] != PAD  # (images, n, steps)
        steps = int(real.any(dim=(0, 1)).sum())
        real, targets = real[:, :, :steps], captions[:, :, 1 : steps + 1]
        tokens = (captions if inputs is None else inputs)[:, :, :steps].flatten(0, 1)
        state, mask = self._with_masks(self.start(grid).repeat(captions.shape[1]))
        if self.core.fuses(state):
            outputs, _ = self.core.unroll(self.dropout(self._embed(tokens)), state, grid)
            outputs = outputs[real.flatten(0, 1)]
            return TeacherForced(
                self._next_logits(outputs, _concepts_of_tokens(state, real), None), targets[real], None
            )
        packing = Packing(real)
        embedded = self._embed(tokens[packing.sentence, packing.step])
        embedded = self._drop(embedded, None if mask is None else mask[packing.sentence])
        _, output, *attended = self.core.compute_output(
            self._unroll_packed(self.core.project(embedded), packing, state, grid)
        )
        mask = None if state.masks is None else state.masks[:, 1, -1][packing.by_sentence(packing.sentence)]
        attention, chosen = (None if each is None else packing.padded(each) for each in attended)
        logits = self._next_logits(output, _concepts_of_tokens(state, real), mask)
        return TeacherForced(logits, targets[real], attention, chosen)

    def unroll(self, tokens: Tensor, state: State, grid: Tensor) -> tuple[Tensor, State]:
        """Advance every sentence by several known tokens.

        Args:
            tokens: Token ids, shape (sentences, steps).
            state: The state after the previous tokens.
            grid: Feature vectors, shape (images, regions, channels).

        Returns:
            Next-token logits after each token, shape (sentences, steps, vocabulary), and the state after the last.
        """
        state, mask = self._with_masks(state)
        embedded = self._drop(self._embed(tokens), None if mask is None else mask.unsqueeze(1))
        outputs, state = self.core.unroll(embedded, state, grid)
        mask = None if state.masks is None else state.masks[:, 1, -1].unsqueeze(1)
        return self._logits(self._drop(outputs, mask)), state._replace(masks=None)

    def _unroll_packed(self, projected: Tensor, packing: Packing, state: State, grid: Tensor) -> CoreOutput:
        """Run the recurrence over known captions.

        Args:
            projected: Projected word vectors, in the order of the steps.
            packing: The tokens of each step.
            state: Initial state of all sentences.
            grid: Feature vectors, shape (images, regions, channels).

        Returns:
            The core's results for the real tokens, caption after caption, with the initial state.
        """
        advances: list[CoreOutput] = []
        start = state._replace(layout=packing.tokens)
        state = state.select(packing.order, packing.layouts[0])
        with Unrolled():
            for tokens, layout in zip(projected.split(packing.counts), packing.layouts, strict=True):  # type: ignore[no-untyped-call]
                state, grid = state.first(len(tokens), layout), Unrolled.first(grid, layout.images)
                advances.append(self.core.advance(tokens, state, grid))
                state = advances[-1].state
        _, outputs, *attended = zip(*advances, strict=True)
        parts = (None if part[0] is None else packing.by_sentence(torch.cat(part)) for part in attended)
        return CoreOutput(start, packing.by_sentence(torch.cat(outputs)), *parts)

    def _project(self, tokens: Tensor) -> Tensor:
        """Projected word vectors, shape (sentences, size)."""
        table = _PROJECTED.get(self)
        if table is not None:
            return table.index_select(0, tokens)
        return self.core.project(self.dropout(self._embed(tokens)))

    def _with_masks(self, state: State) -> tuple[State, Tensor | None]:
        """Sample the masks of variational dropout where it is used: those of the state, and one of the word vectors.

        The latter has the shape (sentences, embedding_size).
        """
        if not (self.training and self.config.variational_dropout and self.config.dropout > 0):
            return state, None
        sentences, layers, size = state.hidden.shape
        masks = self.dropout(state.hidden.new_ones(sentences, 2, layers, size))
        return state._replace(masks=masks), self.dropout(state.hidden.new_ones(sentences, self.config.embedding_size))

    def _drop(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Apply dropout, with the given mask or a new one."""
        dropped: Tensor = self.dropout(x) if mask is None else x * mask
        return dropped

    def _embed(self, tokens: Tensor) -> Tensor:
        """Word vectors in the precision of the core."""
        return self.embedding(tokens).to(next(self.core.parameters()).dtype)  # type: ignore[no-any-return]

    def _next_logits(self, output: Tensor, concepts: Candidates | None, mask: Tensor | None) -> Tensor:
        """Next-word logits after outputs of the core, shape (sentences, hidden_size).

        Args:
            output: The outputs.
            concepts: Those of each sentence's image.
            mask: Of variational dropout; None for a new one.
        """
        if self.concepts is None or concepts is None:
            return self._logits(self._drop(output, mask))
        weights, mixed = self.concepts.attend(output, concepts)
        logits = self._logits(self._drop(output + mixed, mask))
        if not self.concepts.copies:
            return logits
        return self.concepts.copy(logits, output, mixed, weights, concepts)

    def _logits(self, output: Tensor) -> Tensor:
        """Map the core's output, shape (…, hidden_size), to next-token logits (…, vocabulary)."""
        weight = self.embedding.weight if self.output is None else self.output.weight
        return linear(self.reduction(output).to(weight.dtype), weight, self.output_bias)


def _concepts_of_tokens(state: State, real: Tensor) -> Candidates | None:
    """The concepts of each real token's image, caption after caption; real has the shape (images, captions, steps)."""
    concepts = state.cache.concepts
    if concepts is None:
        return None
    image = torch.arange(len(real), device=real.device).repeat_interleave(real.flatten(1).sum(1))
    return concepts.select(image)
