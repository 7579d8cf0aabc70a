"""What all objectives share: what they are given of a step, and how their losses become one."""

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
    """A batch, and what the model made of it.

    Attributes:
        model: The model, in training mode.
        batch: The batch, with all that the data has of its images.
        seed: A number that no other batch of the run has.
        pixels: Normalized images, shape (images, 3, size, size); None where the batch holds features.
        features: The encoder's feature vectors, shape (images, regions, channels), with none left out.
        grid: What of them the decoder was shown, in the same shape.
        captions: Word ids of the captions read, shape (images, captions an image, length).
        outcome: What the decoder made of grid and captions.
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
    """What an objective adds to the loss.

    Attributes:
        loss: Its own loss, a single number.
        weight: By which it is multiplied.
        rest: By which the sum of the objectives before it is multiplied: 1 to add to it, 1 - weight to mix.
        logged: What is to be logged, by name.
    """

    loss: Tensor
    weight: float = 1.0
    rest: float = 1.0
    logged: Mapping[str, Tensor | float] = field(default_factory=dict)


class Objective(ABC):
    """One thing that training optimizes."""

    def begin(self, data: CaptionData, device: torch.device) -> None:  # noqa: B027 (most objectives need nothing)
        """Prepare for training; it is called once before the first step.

        Args:
            data: The data of the run, set up.
            device: Where the model is.
        """

    @abstractmethod
    def __call__(self, step: TrainingStep) -> Term:
        """Compute the objective's loss of a step."""


def combine(terms: Iterable[Term]) -> tuple[Tensor, dict[str, Tensor | float]]:
    """Sum terms up in their order.

    Returns:
        The loss, a single number, and what is to be logged, by name.
    """
    loss = torch.zeros(())
    logged: dict[str, Tensor | float] = {}
    for term in terms:
        loss = term.rest * loss + term.weight * term.loss
        logged |= term.logged
    return loss, logged
