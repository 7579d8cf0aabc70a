"""What a captioner learns from others: which words each of them holds possible (Hinton et al., 2015)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captioner import checkpoint
from captioner.errors import CaptionerError
from captioner.models.captioner import CaptionModel
from captioner.models.decoder import TeacherForced
from captioner.text.vocabulary import Vocabulary
from captioner.training.objectives.objective import Objective, Term, TrainingStep
from captioner.training.objectives.words import members_cross_entropy

if TYPE_CHECKING:
    from captioner.training.datamodule import CaptionData


class Distillation(Objective):
    """The next words that teachers expect; the objectives before it keep the rest of the loss.

    Args:
        weight: Share of what the teachers expect in the loss, in [0, 1].
        teachers: The teachers.
    """

    def __init__(self, weight: float, teachers: Teachers) -> None:
        self.weight = weight
        self.teachers = teachers

    def begin(self, data: CaptionData, device: torch.device) -> None:
        """Move the teachers to where the model is."""
        self.teachers.to(device)

    def __call__(self, step: TrainingStep) -> Term:
        """Cross-entropy with what the teachers expect after the words of the step's captions."""
        expected = self.teachers.distribution(step.pixels, step.features, step.captions)
        loss = distillation_loss(step.outcome, expected)
        return Term(loss, self.weight, 1 - self.weight, {"distillation": loss})


class Teachers:
    """Captioners that are not trained, whose mean distribution over the next word is learned.

    One with the student's CNN, where that is frozen, shares the student's features; another looks at the pixels itself.

    Args:
        files: Their checkpoints; of an ensemble's, each member is one.
        student: The model that learns; what it takes over from another model must be in it.
        vocabulary: Its words.

    Raises:
        CaptionerError: A checkpoint cannot be read, or has other words or another preprocessing.
    """

    def __init__(self, files: Sequence[str | os.PathLike[str]], student: CaptionModel, vocabulary: Vocabulary) -> None:
        self.names: list[str] = []
        self.models: list[CaptionModel] = []
        for name, content in ((os.fspath(file), each) for file in files for each in checkpoint.read_members(file)):
            model, words = content.build()
            if words.words != vocabulary.words:
                raise CaptionerError(f"teacher {name}: has other words; train one on the same captions")
            if model.config.transform != student.config.transform:
                raise CaptionerError(
                    f"teacher {name}: sees images as {model.config.transform}, the model as "
                    f"{student.config.transform}; set model.encoder.image_size and model.encoder.resize as it has them"
                )
            self.names.append(name)
            self.models.append(model.requires_grad_(False))
        self.sharing = [student.encoder.is_frozen and model.encoder.sees_as(student.encoder) for model in self.models]

    def to(self, device: torch.device) -> None:
        """Move them to where the student is."""
        for model in self.models:
            model.to(device)

    @torch.no_grad()
    def distribution(self, pixels: Tensor | None, grid: Tensor, captions: Tensor) -> Tensor:
        """What they expect after the words of known captions.

        Args:
            pixels: Normalised images, shape (images, 3, size, size); None where features come from a cache.
            grid: The student's feature vectors, shape (images, regions, channels), with none left out.
            captions: Word ids, shape (images, captions an image, length), as `Decoder.forward` takes them.

        Returns:
            Their mean probabilities, shape (words, vocabulary), in the order of `TeacherForced.targets`.

        Raises:
            CaptionerError: There are no pixels for one that needs them.
        """
        expected = []
        for name, model, sharing in zip(self.names, self.models, self.sharing, strict=True):
            if sharing:
                seen = grid
            elif pixels is not None:
                seen = model.encoder(pixels)
            else:
                raise CaptionerError(
                    f"teacher {name}: has another CNN than the cached features are of; drop data.feature_cache"
                )
            expected.append(model.decoder(seen, captions).logits.float().softmax(-1))
        return torch.stack(expected).mean(0)


def distillation_loss(outcome: TeacherForced, expected: Tensor) -> Tensor:
    """Mean cross-entropy a real word between what teachers expect and what the model does, in nats.

    Args:
        outcome: What the decoder made of known captions.
        expected: Probabilities of the next word, shape (words, vocabulary), in the order of the outcome's targets.
    """
    return members_cross_entropy(outcome, expected)
