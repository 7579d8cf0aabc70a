"""Several decoders on one CNN that write each sentence together: an ensemble that is trained, kept and used as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from captioner.decoder.config import DecoderConfig
from captioner.decoder.decoder import Decoder
from captioner.decoder.state import State, Step, TeacherForced


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
        logits = _mean([step.logits.float().log_softmax(-1) for step in steps])
        return Step(logits, _together([step.state for step in steps]), _mean_attention([s.attention for s in steps]))

    def forward(self, grid: Tensor, captions: Tensor, read: Tensor | None = None) -> TeacherForced:
        """As `Decoder.forward`, with the means of `step`; while they learn, the outcome of each stands beside them."""
        outcomes: list[TeacherForced] = [member(grid, captions, read) for member in self.members]
        logits = _mean([outcome.logits.float().log_softmax(-1) for outcome in outcomes])
        attention = _mean_attention([outcome.attention for outcome in outcomes])
        each = tuple(outcomes) if self.training else ()
        return TeacherForced(logits, outcomes[0].targets, attention, members=each)


def _together(states: list[State]) -> State:
    first, *others = states
    return first._replace(others=tuple(others))


def _mean(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).mean(0)


def _mean_attention(maps: list[Tensor | None]) -> Tensor | None:
    """None where there is no attention."""
    known = [each for each in maps if each is not None]
    return _mean(known) if known else None


def make_decoder(config: DecoderConfig, channels: int, vocabulary_size: int) -> Decoder | Members:
    """The decoder that a configuration describes, of one member or of several."""
    return (Decoder if config.members == 1 else Members)(config, channels, vocabulary_size)
