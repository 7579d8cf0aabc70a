"""Knowledge distillation from teacher captioners (Hinton et al., 2015)."""

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
    """Cross-entropy with the teachers' distributions; earlier objectives share the rest of the loss.

    Args:
        weight: Share of the distillation loss, in [0, 1].
        teachers: The teachers.
    """

    def __init__(self, weight: float, teachers: Teachers) -> None:
        self.weight = weight
        self.teachers = teachers

    def begin(self, data: CaptionData, device: torch.device) -> None:
        """Move the teachers to the model's device."""
        self.teachers.to(device)

    def __call__(self, step: TrainingStep) -> Term:
        """Compute the cross-entropy with the teachers' distributions over the step's captions."""
        expected = self.teachers.distribution(step.pixels, step.features, step.captions)
        loss = distillation_loss(step.outcome, expected)
        return Term(loss, self.weight, 1 - self.weight, {"distillation": loss})


class Teachers:
    """Frozen captioners whose mean next-word distribution is the target.

    A teacher with the student's frozen CNN uses the student's features; others encode the pixels themselves.

    Args:
        files: Their checkpoints; each member of an ensemble is a teacher.
        student: The model to train, with its initial weights loaded.
        vocabulary: Its vocabulary.

    Raises:
        CaptionerError: A checkpoint cannot be read, or has another vocabulary or preprocessing.
    """

    def __init__(self, files: Sequence[str | os.PathLike[str]], student: CaptionModel, vocabulary: Vocabulary) -> None:
        self.names: list[str] = []
        self.models: list[CaptionModel] = []
        for name, content in ((os.fspath(file), each) for file in files for each in checkpoint.read_members(file)):
            model, words = content.build()
            if (words.words, words.tokenizer) != (vocabulary.words, vocabulary.tokenizer):
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
        """Move them to the student's device."""
        for model in self.models:
            model.to(device)

    @torch.no_grad()
    def distribution(self, pixels: Tensor | None, grid: Tensor, captions: Tensor) -> Tensor:
        """Compute their next-word distributions for known captions.

        Args:
            pixels: Normalized images, shape (images, 3, size, size); None if features come from a cache.
            grid: The student's feature vectors, shape (images, regions, channels), before feature dropout.
            captions: Word ids, shape (images, captions per image, length), as `Decoder.forward` takes them.

        Returns:
            Their mean probabilities, shape (words, vocabulary), in the order of `TeacherForced.targets`.

        Raises:
            CaptionerError: A teacher needs pixels, and there are none.
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
    """Mean cross-entropy per real word between the teachers' and the model's distributions, in nats.

    Args:
        outcome: The decoder's output for known captions.
        expected: Probabilities of the next word, shape (words, vocabulary), in the order of the outcome's targets.
    """
    return members_cross_entropy(outcome, expected)
