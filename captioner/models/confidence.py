"""Confidence: the probability that everything a caption names is in the image.

Two logistic regressions. One distinguishes photographs from other images by the mean feature vector; the other
distinguishes correct captions of photographs from wrong ones by that vector and the caption's `FEATURES`. The
confidence is the product of the two probabilities. `captioner.training.calibration` fits them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from captioner.models.caption_features import FEATURES, Suggested, suggest
from captioner.models.decoder import Decoder, MemberDecoders

_LEAST = 1e-4
"""Margin of concept probabilities from 0 and 1, where log-odds are infinite."""


class Evidence(NamedTuple):
    """Inputs of the confidences of one image's captions.

    Attributes:
        picture: The mean feature vector, float32, shape (channels,).
        captions: The `FEATURES` of each caption, float32, shape (captions, features).
    """

    picture: Tensor
    captions: Tensor


class Confidence(nn.Module):
    """The two logistic regressions.

    Args:
        channels: Length of the encoder's feature vectors.
        vocabulary_size: Number of words, the special ones included.

    Attributes:
        photograph: Weights of the mean feature vector, shape (channels,).
        right: Weights of the mean feature vector, then of the `FEATURES`, shape (channels + features,).
        things: For each word, 1 + the index of the category that it names, or 0.
        networks: Number of networks in the ensemble that it was fitted for.
    """

    photograph: Tensor
    photograph_bias: Tensor
    right: Tensor
    right_bias: Tensor
    things: Tensor
    networks: Tensor

    def __init__(self, channels: int, vocabulary_size: int) -> None:
        super().__init__()
        # Vectors, which every precision of a checkpoint leaves in float32.
        self.register_buffer("photograph", torch.zeros(channels))
        self.register_buffer("photograph_bias", torch.zeros(()))
        self.register_buffer("right", torch.zeros(channels + len(FEATURES)))
        self.register_buffer("right_bias", torch.zeros(()))
        self.register_buffer("things", torch.zeros(vocabulary_size, dtype=torch.uint8))
        self.register_buffer("networks", torch.ones((), dtype=torch.long))

    def forward(self, evidence: Evidence) -> list[float]:
        """Compute the confidence of each caption of an image, in [0, 1]."""
        picture, captions = evidence
        photograph, right = self.of_pictures(picture)
        confidences: list[float] = (photograph.sigmoid() * (captions @ self.of_features + right).sigmoid()).tolist()
        return confidences

    def of_pictures(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the part of both regressions that depends on the image alone.

        Args:
            pictures: Mean feature vectors, float32, shape (..., channels).

        Returns:
            The log-odds of a photograph, and the image's term of the log-odds of a right caption, both of shape (...).
        """
        of_picture = self.right[: len(self.photograph)]
        return pictures @ self.photograph + self.photograph_bias, pictures @ of_picture + self.right_bias

    @property
    def of_features(self) -> Tensor:
        """The weights of the `FEATURES` in the log-odds of a right caption."""
        return self.right[len(self.photograph) :]


@torch.no_grad()
def suggested(decoder: Decoder | MemberDecoders, grid: Tensor, things: Tensor) -> list[Suggested]:
    """Compute the concepts of images, averaging the probabilities of several members.

    Args:
        decoder: The decoder.
        grid: Feature vectors, shape (images, regions, channels).
        things: As `Confidence.things`.
    """
    log_odds, words, of_words = concept_log_odds(decoder, grid), concept_words(decoder), things.int().tolist()
    return [suggest(words, row, of_words) for row in log_odds.tolist()]


def concept_words(decoder: Decoder | MemberDecoders) -> list[int]:
    """Return the word id of each concept, except the one without a word."""
    found = [member.concepts for member in decoder.members if member.concepts is not None]
    words: list[int] = found[0].word_ids[1:].tolist() if found else []
    return words


def concept_log_odds(decoder: Decoder | MemberDecoders, grid: Tensor) -> Tensor:
    """Compute the log-odds of the concepts of images; several members are averaged as probabilities.

    Args:
        decoder: The decoder.
        grid: Feature vectors, shape (images, regions, channels).

    Returns:
        In the order of `concept_words`, shape (images, concepts).
    """
    found = [member.concepts for member in decoder.members if member.concepts is not None]
    if not found:
        return grid.new_zeros(grid.shape[0], 0)
    probabilities = torch.stack([each.probabilities(grid) for each in found]).mean(0)
    return probabilities[:, 1:].clamp(_LEAST, 1 - _LEAST).logit()
