"""Several decoders on one CNN that write each sentence together: an ensemble that is trained and kept as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from captioner.models.decoder.config import DecoderConfig
from captioner.models.decoder.decoder import Decoder
from captioner.models.decoder.state import Step, TeacherForced


def average_log_probabilities(outputs: Sequence[Step] | Sequence[TeacherForced]) -> tuple[Tensor, Tensor | None]:
    """What several decoders tell of the same sentences, as one.

    Args:
        outputs: By each decoder.

    Returns:
        The mean of their log-probabilities (not normalised again), float32, shaped as their logits; and their mean
        attention, None where one has none or they look at other grids.
    """
    first, *others = outputs
    log_probabilities = first.logits.float().log_softmax(-1)
    for other in others:
        # Not in place: gradients of the first need it as it is.
        log_probabilities = log_probabilities + other.logits.float().log_softmax(-1)
    maps = [each.attention for each in outputs if each.attention is not None]
    attention = None
    if len(maps) == len(outputs) and all(each.shape == maps[0].shape for each in maps):
        attention = maps[0] if len(maps) == 1 else torch.stack(maps).mean(0)
    return log_probabilities / len(outputs) if others else log_probabilities, attention


class MemberDecoders(nn.Module):
    """Decoders of one shape that began apart, each with its own words; the next word's log-probability is their mean.

    Known captions teach each of them by itself, which keeps them apart: what one gets wrong the others may get right.
    Rewards teach all together, since together they have drawn the captions, as members of an `Ensemble`.

    Args:
        config: The shape of each, and how many.
        channels: Length of the encoder's feature vectors.
        vocabulary_size: Number of words, the special ones included.
    """

    def __init__(self, config: DecoderConfig, channels: int, vocabulary_size: int) -> None:
        super().__init__()
        made = nn.ModuleList(Decoder(config, channels, vocabulary_size) for _ in range(config.members))
        self.members: Sequence[Decoder] = made  # type: ignore[assignment]

    def forward(self, grid: Tensor, captions: Tensor, inputs: Tensor | None = None) -> TeacherForced:
        """As `Decoder.forward`: logits are the mean of the members' log-probabilities, attention is their mean.

        While they learn, the outcome of each stands beside them.
        """
        outcomes: list[TeacherForced] = [member(grid, captions, inputs) for member in self.members]
        log_probabilities, attention = average_log_probabilities(outcomes)
        each = tuple(outcomes) if self.training else ()
        return TeacherForced(log_probabilities, outcomes[0].targets, attention, members=each)


def member_prefix(index: int, members: int) -> str:
    """What the names of a member's parameters begin with, in a decoder of so many."""
    return f"members.{index}." if members > 1 else ""


def make_decoder(config: DecoderConfig, channels: int, vocabulary_size: int) -> Decoder | MemberDecoders:
    """The decoder that a configuration describes, of one member or of several."""
    return (Decoder if config.members == 1 else MemberDecoders)(config, channels, vocabulary_size)
