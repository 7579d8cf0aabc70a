"""Several decoders on one CNN that write each sentence together: an ensemble that is trained, kept and used as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from captioner.decoder.config import DecoderConfig
from captioner.decoder.decoder import Decoder
from captioner.decoder.state import State, Step, TeacherForced


def tell_together(told: Sequence[Step] | Sequence[TeacherForced]) -> tuple[Tensor, Tensor | None]:
    """What several decoders tell of the same sentences, as one.

    Args:
        told: By each decoder.

    Returns:
        The mean of their log-probabilities (not normalised again), float32, shaped as their logits; and their mean
        attention, None where one has none or they look at other grids.
    """
    first, *others = told
    log_probabilities = first.logits.float().log_softmax(-1)
    for other in others:
        # Not in place: gradients of the first need it as it is.
        log_probabilities = log_probabilities + other.logits.float().log_softmax(-1)
    maps = [each.attention for each in told if each.attention is not None]
    attention = None
    if len(maps) == len(told) and all(each.shape == maps[0].shape for each in maps):
        attention = maps[0] if len(maps) == 1 else torch.stack(maps).mean(0)
    return log_probabilities / len(told) if others else log_probabilities, attention


class Members(nn.Module):
    """Decoders of one shape that began apart, each with its own words; the next word's log-probability is their mean.

    Known captions teach each of them by itself, which keeps them apart: what one gets wrong the others may get right.
    Rewards teach all together, since together they have drawn the captions.

    Args:
        config: The shape of each, and how many.
        channels: Length of the encoder's feature vectors.
        vocabulary_size: Number of words, the special ones included.
    """

    def __init__(self, config: DecoderConfig, channels: int, vocabulary_size: int) -> None:
        super().__init__()
        made = nn.ModuleList(Decoder(config, channels, vocabulary_size) for _ in range(config.members))
        self.members: Sequence[Decoder] = made  # type: ignore[assignment]

    def start(self, grid: Tensor) -> State:
        """As `Decoder.start`; the state of the first member has those of the others beside it."""
        return _together([member.start(grid) for member in self.members])

    def step(self, words: Tensor, state: State, grid: Tensor) -> Step:
        """As `Decoder.step`; logits are the mean of the members' log-probabilities, attention is their mean."""
        states = (state, *state.others)
        steps = [member.step(words, each, grid) for member, each in zip(self.members, states, strict=True)]
        log_probabilities, attention = tell_together(steps)
        return Step(log_probabilities, _together([step.state for step in steps]), attention)

    def forward(self, grid: Tensor, captions: Tensor, read: Tensor | None = None) -> TeacherForced:
        """As `Decoder.forward`, with the means of `step`; while they learn, the outcome of each stands beside them."""
        outcomes: list[TeacherForced] = [member(grid, captions, read) for member in self.members]
        log_probabilities, attention = tell_together(outcomes)
        each = tuple(outcomes) if self.training else ()
        return TeacherForced(log_probabilities, outcomes[0].targets, attention, members=each)


def _together(states: list[State]) -> State:
    first, *others = states
    return first._replace(others=tuple(others))


def make_decoder(config: DecoderConfig, channels: int, vocabulary_size: int) -> Decoder | Members:
    """The decoder that a configuration describes, of one member or of several."""
    return (Decoder if config.members == 1 else Members)(config, channels, vocabulary_size)
