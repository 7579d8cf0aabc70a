"""The next word of the reference captions, by cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from captioner.models.decoder import TeacherForced
from captioner.training.objectives.objective import Objective, Term, TrainingStep


class WordLoss(Objective):
    """Maximum likelihood of the reference captions.

    Args:
        label_smoothing: Share of the target probability that is spread over all words, in [0, 1).
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def __call__(self, step: TrainingStep) -> Term:
        """Cross-entropy of the words, in nats."""
        loss = word_loss(step.outcome, self.label_smoothing)
        return Term(loss, logged={"loss": loss})


def word_loss(outcome: TeacherForced, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy a real word, in nats, and over members that learn; its exponential is the perplexity.

    Args:
        outcome: What the decoder made of known captions.
        label_smoothing: Share of the target probability that is spread over all words.
    """
    return members_cross_entropy(outcome, outcome.targets, label_smoothing)


def members_cross_entropy(outcome: TeacherForced, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy a real word, in nats: of each member by itself while several learn, then of all.

    Args:
        outcome: What the decoder made of known captions.
        targets: Word ids, shape (words,), or probabilities, shape (words, vocabulary).
        label_smoothing: Share of the target probability that is spread over all words.
    """
    told = outcome.members or (outcome,)
    losses = [cross_entropy(each.logits.float(), targets, label_smoothing=label_smoothing) for each in told]
    return torch.stack(losses).mean()
