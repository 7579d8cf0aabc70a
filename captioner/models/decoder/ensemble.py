"""An ensemble of decoders on one CNN that is trained and stored as one model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from captioner.models.decoder.config import DecoderConfig
from captioner.models.decoder.decoder import Decoder
from captioner.models.decoder.state import Step, TeacherForced


def average_log_probabilities(outputs: Sequence[Step] | Sequence[TeacherForced]) -> tuple[Tensor, Tensor | None]:
    """Average the outputs of several decoders for the same sentences.

    Args:
        outputs: The output of each decoder.

    Returns:
        The mean log-probabilities (not renormalized), float32, in the shape of the logits; and the mean attention, None
        if one has none or if their grids differ.
    """
    first, *others = outputs
    log_probabilities = first.logits.float().log_softmax(-1)
    for other in others:
        # Not in place: the gradient of the first needs its value.
        log_probabilities = log_probabilities + other.logits.float().log_softmax(-1)
    maps = [each.attention for each in outputs if each.attention is not None]
    attention = None
    if len(maps) == len(outputs) and all(each.shape == maps[0].shape for each in maps):
        attention = maps[0] if len(maps) == 1 else torch.stack(maps).mean(0)
    return log_probabilities / len(outputs) if others else log_probabilities, attention


class MemberDecoders(nn.Module):
    """Decoders of one configuration with different initial weights, whose log-probabilities are averaged.

    Teacher forcing trains each of them separately, which keeps them diverse. Self-critical training trains them
    jointly, since they sample the captions together, as an `Ensemble`.

    Args:
        config: Configuration and number of the decoders.
        channels: Length of the encoder's feature vectors.
        vocabulary_size: Number of tokens, the special ones included.
    """

    def __init__(self, config: DecoderConfig, channels: int, vocabulary_size: int) -> None:
        super().__init__()
        made = nn.ModuleList(Decoder(config, channels, vocabulary_size) for _ in range(config.members))
        self.members: Sequence[Decoder] = made  # type: ignore[assignment]

    def forward(self, grid: Tensor, captions: Tensor, inputs: Tensor | None = None) -> TeacherForced:
        """Teacher forcing as in `Decoder.forward`, with mean log-probabilities as logits and the mean attention.

        In training, the result includes the outputs of the members.
        """
        outcomes: list[TeacherForced] = [member(grid, captions, inputs) for member in self.members]
        log_probabilities, attention = average_log_probabilities(outcomes)
        each = tuple(outcomes) if self.training else ()
        return TeacherForced(log_probabilities, outcomes[0].targets, attention, members=each)


def member_prefix(index: int, members: int) -> str:
    """Prefix of the parameter names of a member, in a decoder with the given number of members."""
    return f"members.{index}." if members > 1 else ""


def make_decoder(config: DecoderConfig, channels: int, vocabulary_size: int) -> Decoder | MemberDecoders:
    """Build the decoder of a configuration, with one member or several."""
    return (Decoder if config.members == 1 else MemberDecoders)(config, channels, vocabulary_size)
