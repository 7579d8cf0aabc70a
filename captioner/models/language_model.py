"""Language model: a decoder without an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from captioner.errors import CaptionerError
from captioner.models.decoder import Decoder, DecoderConfig, State, Step
from captioner.text.vocabulary import END, START, Unit

BLIND = DecoderConfig(attention="none", image_input="none")
"""Default decoder of a language model."""


@dataclass(frozen=True)
class LanguageConfig:
    """Configuration of a language model: everything but weights and vocabulary.

    Attributes:
        decoder: Configuration of the decoder, without attention and image.
        unit: Kind of the tokens: ``words``, ``characters``, or ``tokens``, which spaces divide.
    """

    decoder: DecoderConfig = field(default_factory=lambda: BLIND)
    unit: Unit = "words"

    def __post_init__(self) -> None:
        for name in ("attention", "image_input"):
            if getattr(self.decoder, name) != "none":
                raise CaptionerError(
                    f"decoder.{name} is {getattr(self.decoder, name)}; a language model has no picture: set it to none"
                )
        if self.decoder.members != 1:
            raise CaptionerError(f"decoder.members is {self.decoder.members}; a language model has 1")
        if self.unit not in get_args(Unit):
            raise CaptionerError(f"unit {self.unit!r} is unknown; choose {', '.join(get_args(Unit))}")


def total_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    """Negative log-probability of all tokens, and their number.

    START is not counted: it always follows END.

    Args:
        logits: Shape (sentences, tokens, vocabulary).
        targets: The tokens that came, shape (sentences, tokens).
    """
    total = cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=START, reduction="sum")
    return total, int((targets != START).sum())


class LanguageModel(nn.Module):
    """A decoder by itself, whose weights have the same names as in a captioner, which can start from them.

    Args:
        config: Configuration of the language model.
        vocabulary_size: Number of tokens, the special ones included.
    """

    def __init__(self, config: LanguageConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.decoder = Decoder(config.decoder, 0, vocabulary_size)

    def start(self, grid: Tensor) -> State:
        """Compute the state between two lines: in the stream of text, a line's START follows an END."""
        end = torch.full((len(grid),), END, device=grid.device)
        return self.decoder.step(end, self.decoder.start(grid), grid).state

    def step(self, tokens: Tensor, state: State, grid: Tensor) -> Step:
        """Advance every sentence by one token, as `Decoder.step` does."""
        return self.decoder.step(tokens, state, grid)

    def nothing(self, sentences: int) -> Tensor:
        """Empty grid, of no regions, for each sentence."""
        return self.decoder.embedding.weight.new_zeros(sentences, 0, 0)
