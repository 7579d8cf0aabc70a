"""A picture as a question sees it: the regions of its grid, each joined with what is asked, are the decoder's grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from text_encoder import Encoder, TextConfig, TextEncoder, equal_lengths
from torch import Tensor, nn

from captioner.data.transforms import read_scaled, to_pixels
from captioner.errors import CaptionerError
from captioner.models.encoder import GridEncoder

LEAST_SIZE = 32
"""Height and width of a picture in pixels from which CNNs have a grid."""

BYTES_KEPT = 1 << 29
"""Memory for the regions of pictures: of a small data set, each picture is seen once, and not in every epoch."""


@dataclass(frozen=True)
class QuestionConfig(TextConfig):
    """Configuration of a network from pictures and questions to answers.

    Attributes:
        network: Name of the CNN, as in `GridEncoder`. It has the weights that ``captioner[weights]`` brings, and stays
            as it is.
        stage: Last stage of the CNN that is used, as in `GridEncoder`; empty for all. An early one has small regions.
        image_size: Height and width of the CNN's input, in pixels.
    """

    kind: ClassVar[str] = "questions about pictures"

    network: str = "timm/tf_efficientnet_lite0"
    stage: str = "blocks.2"
    image_size: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size < LEAST_SIZE:
            raise CaptionerError(f"image size is {self.image_size}; it must be at least {LEAST_SIZE}")

    def make_encoder(self, vocabulary_size: int) -> Encoder:
        """Build the encoder of pictures and questions.

        Raises:
            CaptionerError: The view is one of sentences alone.
        """
        if self.view == "last":
            raise CaptionerError("view 'last' is of sentences alone; choose attention or mean")
        return QuestionEncoder(self, vocabulary_size)


@dataclass(frozen=True)
class Question:
    """A question about a picture.

    Attributes:
        picture: The picture's file.
        words: Token ids of the question, at least one.
    """

    picture: Path
    words: list[int]

    def __len__(self) -> int:
        return 1  # all grids have one size: a batch may hold questions of any lengths


class Modulation(nn.Module):
    """Regions as a condition changes them: ReLU(γ ∘ W x_i + β), γ and β of the condition (FiLM: Perez et al., 2018).

    Args:
        region_size: Length of a region's vector x_i.
        condition_size: Length of the condition.
        size: Length of the result.
    """

    def __init__(self, region_size: int, condition_size: int, size: int) -> None:
        super().__init__()
        self.region = nn.Linear(region_size, size, bias=False)
        self.condition = nn.Linear(condition_size, 2 * size)

    def forward(self, regions: Tensor, condition: Tensor) -> Tensor:
        """Modulate regions, shape (pictures, regions, size), by a condition, shape (pictures, size)."""
        scale, shift = self.condition(condition).unsqueeze(1).chunk(2, -1)
        return torch.relu((1 + scale) * self.region(regions) + shift)


class QuestionEncoder(Encoder):
    """Joins each region of a picture with a question.

    The question's last state q looks at the regions x_i once, and what it finds, z, is joined with each of them, as in
    stacked attention (Yang et al., 2016, Stacked Attention Networks for Image Question Answering). The decoder's
    attention over the regions v_i that result is the second look, which answers "left of" what the first has found.
    x_i ends with the place of the region, two coordinates in [-1, 1].

    Args:
        config: Configuration of the whole network.
        vocabulary_size: Number of tokens of questions, the special ones included.
    """

    def __init__(self, config: QuestionConfig, vocabulary_size: int) -> None:
        super().__init__()
        size = self.channels = config.hidden_size
        self.words = TextEncoder(replace(config, view="last"), vocabulary_size)
        self.network = GridEncoder(config.network, "package", config.stage or None)
        self.transform = self.network.default_transform(config.image_size)
        rows, columns = self.network.grid_shape(config.image_size)
        self._seen: dict[Path, Tensor] = {}
        self._most_seen = BYTES_KEPT // (4 * rows * columns * self.network.channels)
        self.of_features = nn.Sequential(
            nn.LayerNorm(self.network.channels),
            nn.Linear(self.network.channels, size),
            nn.ReLU(),
            nn.Linear(size, size),
            nn.ReLU(),
        )
        region_size = size + 2
        self.normalize = nn.LayerNorm(size)  # states of LSTMs are small at first: regions would hardly be modulated
        self.first_look = Modulation(region_size, size, size)
        self.score = nn.Linear(size, 1, bias=False)
        self.as_asked = Modulation(region_size, size + region_size, size)
        self.contrast = nn.LayerNorm(size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, features: Tensor, questions: Tensor) -> Tensor:
        """Join pictures with questions.

        Args:
            features: The CNN's feature vectors, row by row, shape (pictures, regions, features).
            questions: States q of the questions, shape (pictures, channels).

        Returns:
            The vectors v_i, row by row, shape (pictures, regions, channels).
        """
        regions, questions = append_places(self.of_features(features)), self.normalize(questions)
        look = self.score(self.first_look(regions, questions)).softmax(1)
        found = (look * regions).sum(1)
        grid: Tensor = self.dropout(self.contrast(self.as_asked(regions, torch.cat([questions, found], 1))))
        return grid

    def encode(self, sources: Sequence[Question], word_dropout: float = 0.0) -> Tensor:
        """Read pictures, and join them with their questions of any lengths, as `Encoder.encode`."""
        groups = equal_lengths([len(each.words) for each in sources], len(sources))
        read = [self.words.encode([sources[index].words for index in group], word_dropout) for group in groups]
        order = torch.tensor([index for group in groups for index in group]).argsort()
        grid: Tensor = self(self._see([each.picture for each in sources]), torch.cat(read).squeeze(1)[order])
        return grid

    @torch.no_grad()
    def _see(self, pictures: Sequence[Path]) -> Tensor:
        """The CNN's feature vectors, shape (pictures, regions, features)."""
        new = [picture for picture in dict.fromkeys(pictures) if picture not in self._seen]
        seen = {picture: self._seen[picture] for picture in pictures if picture in self._seen}
        if new:
            pixels = torch.stack([to_pixels(read_scaled(self.transform, picture)) for picture in new])
            with torch.autocast("cpu", enabled=False):
                seen |= zip(new, self.network(self.transform.normalize(pixels)), strict=True)
            self._seen |= {picture: seen[picture] for picture in new[: self._most_seen - len(self._seen)]}
        return torch.stack([seen[picture] for picture in pictures])


def append_places(regions: Tensor) -> Tensor:
    """Append its place to the vector of each region of a square grid: row and column, from -1 to 1.

    Args:
        regions: Row by row, shape (pictures, regions, channels).

    Returns:
        Shape (pictures, regions, channels + 2).
    """
    line = torch.linspace(-1, 1, math.isqrt(regions.shape[1]), dtype=regions.dtype)
    return torch.cat([regions, torch.cartesian_prod(line, line).expand(len(regions), -1, -1)], 2)
