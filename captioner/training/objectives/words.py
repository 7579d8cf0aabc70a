"""Cross-entropy of the reference captions."""

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
        """Compute the cross-entropy of the words, in nats."""
        loss = word_loss(step.outcome, self.label_smoothing)
        return Term(loss, logged={"loss": loss})


def word_loss(outcome: TeacherForced, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy per real word, in nats, also over members that are trained; its exponential is the perplexity.

    Args:
        outcome: The decoder's output for known captions.
        label_smoothing: Share of the target probability that is spread over all words.
    """
    return members_cross_entropy(outcome, outcome.targets, label_smoothing)


def members_cross_entropy(outcome: TeacherForced, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy per real word, in nats: of each member while several are trained, else of their average.

    Args:
        outcome: The decoder's output for known captions.
        targets: Word ids, shape (words,), or probabilities, shape (words, vocabulary).
        label_smoothing: Share of the target probability that is spread over all words.
    """
    told = outcome.members or (outcome,)
    losses = [cross_entropy(each.logits.float(), targets, label_smoothing=label_smoothing) for each in told]
    return torch.stack(losses).mean()
