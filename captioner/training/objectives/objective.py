"""Interface of the objectives: their input, and how their losses are combined."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captioner.data.dataset import Batch
from captioner.models.captioner import CaptionModel
from captioner.models.decoder import TeacherForced

if TYPE_CHECKING:
    from captioner.training.datamodule import CaptionData


@dataclass(frozen=True)
class TrainingStep:
    """A batch with the model's outputs.

    Attributes:
        model: The model, in training mode.
        batch: The batch.
        seed: A seed unique to the batch.
        pixels: Normalized images, shape (images, 3, size, size); None if the batch holds features.
        features: The encoder's feature vectors, shape (images, regions, channels), before feature dropout.
        grid: The decoder's input: the features after feature dropout, same shape.
        captions: Token ids of the decoder's input, shape (images, captions per image, length).
        outcome: The decoder's output for grid and captions.
    """

    model: CaptionModel
    batch: Batch
    seed: int
    pixels: Tensor | None
    features: Tensor
    grid: Tensor
    captions: Tensor
    outcome: TeacherForced


@dataclass(frozen=True)
class Term:
    """An objective's share of the total loss.

    Attributes:
        loss: Its own loss, a scalar.
        weight: Factor of the loss.
        rest: Factor of the sum of earlier objectives: 1 to add, 1 - weight to interpolate.
        logged: Values to log, by name.
    """

    loss: Tensor
    weight: float = 1.0
    rest: float = 1.0
    logged: Mapping[str, Tensor | float] = field(default_factory=dict)


class Objective(ABC):
    """Base class of training objectives."""

    def begin(self, data: CaptionData, device: torch.device) -> None:  # noqa: B027 (most objectives need nothing)
        """Prepare for training; called once before the first step.

        Args:
            data: The data of the run, set up.
            device: The model's device.
        """

    @abstractmethod
    def __call__(self, step: TrainingStep) -> Term:
        """Compute the objective's loss for a step."""


def combine(terms: Iterable[Term]) -> tuple[Tensor, dict[str, Tensor | float]]:
    """Combine terms in their order.

    Returns:
        The loss, a scalar, and the values to log, by name.
    """
    loss = torch.zeros(())
    logged: dict[str, Tensor | float] = {}
    for term in terms:
        loss = term.rest * loss + term.weight * term.loss
        logged |= term.logged
    return loss, logged
