"""A decoder that sees nothing: the probability of the next word, given those before it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from captioner.errors import CaptionerError
from captioner.models.decoder import Decoder, DecoderConfig, State, Step
from captioner.text.vocabulary import END, Unit

BLIND = DecoderConfig(attention="none", image_input="none")
"""The decoder of a language model, where nothing else is said."""


@dataclass(frozen=True)
class LanguageConfig:
    """All that is needed, beside weights and words, to build a language model.

    Attributes:
        decoder: Shape of the decoder, without attention and image.
        unit: What it reads and writes: ``words`` or ``characters``.
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
        if self.unit not in ("words", "characters"):
            raise CaptionerError(f"unit {self.unit!r} is unknown; choose words or characters")


class LanguageModel(nn.Module):
    """A decoder by itself. Its weights have the names that they have in a captioner, which can start from them.

    Args:
        config: Its shape.
        vocabulary_size: Number of words or characters, the special ones included.
    """

    def __init__(self, config: LanguageConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.decoder = Decoder(config.decoder, 0, vocabulary_size)

    def start(self, grid: Tensor) -> State:
        """The state between two lines: text is read as one stream, where a line's START comes after an END."""
        end = torch.full((len(grid),), END, device=grid.device)
        return self.decoder.step(end, self.decoder.start(grid), grid).state

    def step(self, tokens: Tensor, state: State, grid: Tensor) -> Step:
        """As `Decoder.step`."""
        return self.decoder.step(tokens, state, grid)

    def nothing(self, sentences: int) -> Tensor:
        """What the decoder is shown: a grid of no cells for each sentence."""
        return self.decoder.embedding.weight.new_zeros(sentences, 0, 0)
