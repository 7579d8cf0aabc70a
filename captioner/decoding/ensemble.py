"""Ensembles of decoders that extend the same hypotheses together; a single decoder is an ensemble of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from captioner.models.decoder import MemberDecoders, State, Step, average_log_probabilities
from captioner.models.decoder.ragged import Layout


class StepDecoder(Protocol):
    """The interface that decoding needs of a decoder."""

    def start(self, grid: Tensor) -> State:
        """Initial state with one hypothesis per image."""

    def step(self, tokens: Tensor, state: State, grid: Tensor) -> Step:
        """Advance every hypothesis by one token."""


AnyDecoder = StepDecoder | MemberDecoders
"""One decoder, or several on one CNN."""


class Ensemble:
    """Decoders, each with its own features of the same images and its own state of the same hypotheses.

    Initially there is one hypothesis per image; `repeat` makes several of it.

    Args:
        decoders: Decoders with one vocabulary. Each of several `MemberDecoders` weighs as much as a single decoder.
        grids: Feature vectors from the encoder of each, shape (images, regions, channels).
    """

    def __init__(self, decoders: Sequence[AnyDecoder], grids: Sequence[Tensor]) -> None:
        self.grids = list(grids)
        self.decoders: list[tuple[StepDecoder, int]] = []
        for index, (decoder, _) in enumerate(zip(decoders, self.grids, strict=True)):
            members = decoder.members if isinstance(decoder, MemberDecoders) else [decoder]
            self.decoders += [(member, index) for member in members]
        self.states = [decoder.start(self.grids[index]) for decoder, index in self.decoders]

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.grids[0])

    def step(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Advance every hypothesis by one token.

        Args:
            tokens: Token ids, shape (hypotheses,).

        Returns:
            Log-probabilities of the next token, float32, shape (hypotheses, vocabulary): the mean over the decoders,
            not renormalized, so that the log-probability of a caption is the mean of theirs; and their mean
            attention, shape (hypotheses, regions), None if one has none or if their grids differ.
        """
        steps = [d.step(tokens, s, self.grids[p]) for (d, p), s in zip(self.decoders, self.states, strict=True)]
        self.states = [step.state for step in steps]
        return average_log_probabilities(steps)

    def repeat(self, times: int) -> None:
        """Repeat each hypothesis ``times`` times, side by side."""
        self.states = [state.repeat(times) for state in self.states]

    def select(self, sentences: Tensor, layout: Layout) -> None:
        """Keep the selected hypotheses.

        Args:
            sentences: Indices of the hypotheses, in the new order, shape (selected,).
            layout: Assignment of these hypotheses to images.
        """
        self.states = [state.select(sentences, layout) for state in self.states]

    def keep(self, images: Tensor) -> None:
        """Drop all images but those of the given indices; `select` must follow, with a layout over these."""
        self.states = [state.keep(images) for state in self.states]
        self.grids = [grid.index_select(0, images) for grid in self.grids]
