"""Several decoders that write the same sentences together; one decoder is an ensemble of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from captioner.models.decoder import MemberDecoders, State, Step, average_log_probabilities
from captioner.models.decoder.ragged import Layout


class StepDecoder(Protocol):
    """What decoding needs of a decoder."""

    def start(self, grid: Tensor) -> State:
        """The state of one sentence for each image."""

    def step(self, tokens: Tensor, state: State, grid: Tensor) -> Step:
        """Reads one word in every sentence."""


AnyDecoder = StepDecoder | MemberDecoders
"""What writes sentences: one decoder, or several on one CNN."""


class Ensemble:
    """Decoders, each with its own view of the same images and its own state of the same sentences.

    At first there is one sentence for each image; `repeat` makes several of it.

    Args:
        decoders: They share one vocabulary. Each of several `MemberDecoders` counts as much as a decoder by itself.
        grids: The feature vectors of each one's own encoder, shape (images, cells, channels).
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
        """How many images it sees."""
        return len(self.grids[0])

    def step(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Reads one word in every sentence.

        Args:
            tokens: Ids, shape (sentences,).

        Returns:
            Log-probabilities of the next word, the mean over the decoders (not normalised again, so that a caption's
            log-probability is the mean of theirs), float32, shape (sentences, vocabulary); and their mean attention,
            shape (sentences, cells), None where one has none or they look at other grids.
        """
        steps = [d.step(tokens, s, self.grids[p]) for (d, p), s in zip(self.decoders, self.states, strict=True)]
        self.states = [step.state for step in steps]
        return average_log_probabilities(steps)

    def repeat(self, times: int) -> None:
        """Makes ``times`` sentences of each, side by side."""
        self.states = [state.repeat(times) for state in self.states]

    def select(self, sentences: Tensor, layout: Layout) -> None:
        """Keeps chosen sentences.

        Args:
            sentences: Indices, in the order wanted, shape (chosen sentences,).
            layout: How these stand beside the images.
        """
        self.states = [state.select(sentences, layout) for state in self.states]

    def keep(self, images: Tensor) -> None:
        """Lets go of all images but those of the given indices; `select` must follow, with a layout beside these."""
        self.states = [state.keep(images) for state in self.states]
        self.grids = [grid.index_select(0, images) for grid in self.grids]
