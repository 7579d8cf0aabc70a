"""Confidence: the probability that everything a caption names is in the image.

Two logistic regressions. One distinguishes photographs from other images by the mean feature vector; the other
distinguishes correct captions of photographs from wrong ones by that vector and the caption's `FEATURES`. The
confidence is the product of the two probabilities. `captioner.training.calibration` fits them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from captioner.models.decoder import Decoder, MemberDecoders

FEATURES = (
    "mean log-probability",
    "least log-probability",
    "words",
    "things",
    "mean log-probability of things",
    "least log-probability of things",
    "mean log-odds of things",
    "least log-odds of things",
    "mean log-odds of concepts",
    "least log-odds of concepts",
    "greatest log-odds of a concept",
)
"""Features of a caption. Things are words that name one of COCO's 80 categories, counted at their first mention.
Log-probabilities are the decoder's; log-odds are those of the decoder's concepts, given only the image. Missing values,
such as those of concepts in a decoder without, are 0."""

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
        photograph = picture @ self.photograph + self.photograph_bias
        of_picture, of_caption = self.right.split([len(picture), len(FEATURES)])  # type: ignore[no-untyped-call]
        right = captions @ of_caption + picture @ of_picture + self.right_bias
        confidences: list[float] = (photograph.sigmoid() * right.sigmoid()).tolist()
        return confidences


class Suggested(NamedTuple):
    """Log-odds of the decoder's concepts for an image; empty without concepts.

    Attributes:
        words: Log-odds of each concept, by word id.
        things: Log-odds of the most likely concept that names a thing, by index as in `Confidence.things`.
    """

    words: Mapping[int, float]
    things: Mapping[int, float]


@torch.no_grad()
def suggested(decoder: Decoder | MemberDecoders, grid: Tensor, things: Tensor) -> list[Suggested]:
    """Compute the concepts of images, averaging the probabilities of several members.

    Args:
        decoder: The decoder.
        grid: Feature vectors, shape (images, regions, channels).
        things: As `Confidence.things`.
    """
    found = [member.concepts for member in decoder.members if member.concepts is not None]
    if not found:
        return [Suggested({}, {})] * len(grid)
    probabilities = torch.stack([each.probabilities(grid) for each in found]).mean(0)
    # Concept 0 stands for no word.
    log_odds = probabilities[:, 1:].clamp(_LEAST, 1 - _LEAST).logit().cpu()
    words = found[0].word_ids[1:].cpu()
    numbers = things.cpu()[words].long()
    best = torch.full((len(grid), 1 + int(things.max())), -math.inf)
    best.scatter_reduce_(1, numbers.expand(len(grid), -1), log_odds, "amax")
    ids, named = words.tolist(), sorted(set(numbers.tolist()) - {0})
    return [
        Suggested(dict(zip(ids, row, strict=True)), {number: of_things[number] for number in named})
        for row, of_things in zip(log_odds.tolist(), best.tolist(), strict=True)
    ]


def caption_features(
    words: Sequence[int], log_probabilities: Sequence[float], things: Sequence[int], concepts: Suggested
) -> list[float]:
    """The `FEATURES` of one caption.

    Args:
        words: Word ids.
        log_probabilities: Log-probability of each word, then of END if the caption is complete.
        things: As `Confidence.things`.
        concepts: The image's concepts.
    """
    named: dict[int, float] = {}
    for word, log_probability in zip(words, log_probabilities, strict=False):
        if things[word]:
            named.setdefault(things[word], log_probability)
    of_things = [concepts.things[thing] for thing in named if thing in concepts.things]
    of_words = [concepts.words[word] for word in dict.fromkeys(words) if word in concepts.words]
    return [
        _mean(log_probabilities),
        min(log_probabilities, default=0.0),
        float(len(words)),
        float(len(named)),
        _mean(list(named.values())),
        min(named.values(), default=0.0),
        _mean(of_things),
        min(of_things, default=0.0),
        _mean(of_words),
        min(of_words, default=0.0),
        max(concepts.words.values(), default=0.0),
    ]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0
