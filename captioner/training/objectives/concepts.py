"""Objectives for concepts: word prediction, and retention of the pretrained CNN's classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, kl_div

from captioner.data.concepts import ConceptWords
from captioner.models import backbones
from captioner.models.captioner import CaptionModel
from captioner.models.decoder.concepts import Concepts
from captioner.models.encoder import GridEncoder
from captioner.training.objectives.objective import Objective, Term, TrainingStep

if TYPE_CHECKING:
    from captioner.training.datamodule import CaptionData

_SHARE_KEPT = 4
"""One in this many images also goes through the pretrained CNN, which takes half the time of a training step."""


class PretrainedClassifier:
    """A pretrained CNN with its classifier, unchanged by training.

    Args:
        name: Name of the CNN, as `GridEncoder` takes it; one of `backbones.PACKAGED_WEIGHTS`.

    Raises:
        CaptionerError: Its package is not installed.
    """

    def __init__(self, name: str) -> None:
        self.encoder = GridEncoder(name, backbones.WEIGHTS_PACKAGE).eval()
        self.classifier = backbones.packaged_classifier(name)

    def to(self, device: torch.device) -> None:
        """Move it to a device."""
        self.encoder.to(device)
        self.classifier.to(device)

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Log-probabilities of its classes, shape (images, classes), of images (images, 3, size, size)."""
        logits: Tensor = self.classifier(self.encoder(pixels).to(self.classifier.weight.dtype).mean(dim=1))
        return logits.log_softmax(-1)


@torch.no_grad()
def begin_concepts(model: CaptionModel, words: ConceptWords, encoder: str) -> None:
    """Initialize a new model's concept words, and its classes from the pretrained classifier.

    Args:
        model: The model, changed in place; concepts that a checkpoint has initialized are kept.
        words: The concepts.
        encoder: Name of the CNN.
    """
    for concepts in _concepts(model):
        if concepts.word_ids.any():
            continue
        concepts.word_ids.copy_(words.ids)
        if concepts.classes is not None:
            concepts.class_words.copy_(words.classes)
            classifier = backbones.packaged_classifier(encoder)
            if classifier.in_features == concepts.classes.in_features:  # differs if there is a projection
                concepts.classes.load_state_dict(classifier.state_dict())


class ConceptLoss(Objective):
    """Binary cross-entropy of the words that captions and tags name (word detectors: Fang et al., 2015).

    Args:
        weight: Weight of the loss per image, summed over the concepts, in nats.
    """

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def __call__(self, step: TrainingStep) -> Term:
        """Compute the loss of the word classifier."""
        loss = torch.stack([concept_loss(each, step) for each in _concepts(step.model)]).mean()
        return Term(loss, self.weight, logged={"concepts": loss})


class KeptClasses(Objective):
    """Kullback-Leibler divergence from the pretrained CNN's class probabilities (Li and Hoiem, 2016).

    Without it, the CNN forgets classes that no caption names.

    Args:
        weight: Weight of the loss per image, in nats.
        pretrained: The CNN before training.
    """

    def __init__(self, weight: float, pretrained: PretrainedClassifier) -> None:
        self.weight = weight
        self.pretrained = pretrained

    def begin(self, data: CaptionData, device: torch.device) -> None:
        """Move the pretrained CNN to the model's device."""
        self.pretrained.to(device)

    def __call__(self, step: TrainingStep) -> Term:
        """Compute the loss on some of the images; 0 if the batch holds cached features."""
        if step.pixels is None:
            return Term(torch.zeros(()), 0.0)
        count = max(1, len(step.pixels) // _SHARE_KEPT)
        before = self.pretrained(step.pixels[:count])
        losses = []
        for concepts in _concepts(step.model):
            assert concepts.classes is not None
            classes = concepts.classify(step.features[:count], concepts.classes)
            losses.append(kl_div(classes.float().log_softmax(-1), before, reduction="batchmean", log_target=True))
        loss = torch.stack(losses).mean()
        return Term(loss, self.weight, logged={"kept_classes": loss})


def concept_loss(concepts: Concepts, step: TrainingStep) -> Tensor:
    """Binary cross-entropy of the concept words: summed over the concepts, the mean over the images, in nats."""
    assert step.batch.concepts is not None
    logits = concepts.classify(step.features, concepts.words).float()
    losses = binary_cross_entropy_with_logits(logits, step.batch.concepts.to(logits.device), reduction="none")
    return losses[:, 1:].sum(dim=1).mean()  # concept 0 has no word


def _concepts(model: CaptionModel) -> list[Concepts]:
    return [member.concepts for member in model.decoder.members if member.concepts is not None]
