"""REINFORCE for hard attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from captioner.models.decoder import TeacherForced
from captioner.training.objectives.objective import Objective, Term, TrainingStep

BASELINE_RATE = 0.1
"""Update rate of the baseline of hard attention (Show, Attend and Tell, equation 11)."""

_BASELINE = "location_baseline"


class LocationLoss(Objective):
    """REINFORCE for hard attention, with a moving-average baseline (Show, Attend and Tell, section 4.1).

    Args:
        weight: Weight of the loss.
        entropy_weight: Weight of the attention's entropy within the loss.
        keeper: The module that stores the baseline as a buffer.
    """

    def __init__(self, weight: float, entropy_weight: float, keeper: nn.Module) -> None:
        self.weight = weight
        self.entropy_weight = entropy_weight
        self.keeper = keeper
        keeper.register_buffer(_BASELINE, torch.zeros(()))

    def __call__(self, step: TrainingStep) -> Term:
        """Compute the loss of the sampled regions, and update the baseline."""
        baseline = self.keeper.get_buffer(_BASELINE)
        loss, reward = location_loss(step.outcome, baseline, self.entropy_weight)
        baseline.lerp_(reward, BASELINE_RATE)
        return Term(loss, self.weight)


def location_loss(outcome: TeacherForced, baseline: Tensor, entropy_weight: float) -> tuple[Tensor, Tensor]:
    """REINFORCE loss of hard attention, per word: -(R - b) Σ_t log p(s_t) - λ Σ_t H(p_t).

    Optimizes the variational bound of Show, Attend and Tell, section 4.1. The reward R of a caption is its mean
    log-probability per word, given the sampled regions; the paper has the sum, which gives long captions more weight.
    The baseline b is a moving average of R, and the entropy H delays premature convergence.

    Args:
        outcome: The output of a decoder with hard attention for known captions.
        baseline: b, a single number.
        entropy_weight: λ.

    Returns:
        The loss, with gradients for the weights p only, and the mean of R, for the baseline.
    """
    assert outcome.attention is not None
    assert outcome.chosen is not None
    real = outcome.attention.sum(dim=2) > 0  # (sentences, steps)
    losses = cross_entropy(outcome.logits.float(), outcome.targets, reduction="none").detach()
    spoken = real.any(dim=1)
    rewards = -torch.zeros_like(outcome.chosen, dtype=losses.dtype).masked_scatter(real, losses).sum(1)[spoken]
    rewards = rewards / real[spoken].sum(dim=1)
    drawn = (rewards - baseline) * outcome.chosen[spoken].sum(dim=1)
    weights = outcome.attention[real]
    entropy = -torch.special.xlogy(weights, weights).sum()
    return -(drawn.sum() + entropy_weight * entropy) / len(losses), rewards.mean()
