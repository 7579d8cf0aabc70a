"""What training lowers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from captioner.models.decoder import TeacherForced


def word_loss(outcome: TeacherForced, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy a real word, in nats, and over members that learn; its exponential is the perplexity.

    Args:
        outcome: What the decoder made of known captions.
        label_smoothing: Share of the target probability that is spread over all words.
    """
    return _cross_entropy(outcome, outcome.targets, label_smoothing)


def distillation_loss(outcome: TeacherForced, expected: Tensor) -> Tensor:
    """Mean cross-entropy a real word between what teachers expect and what the model does, in nats.

    Args:
        outcome: What the decoder made of known captions.
        expected: Probabilities of the next word, shape (words, vocabulary), in the order of the outcome's targets.
    """
    return _cross_entropy(outcome, expected)


def _cross_entropy(outcome: TeacherForced, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Of each member by itself while several learn; their mean."""
    outcomes = outcome.members or (outcome,)
    losses = [cross_entropy(each.logits.float(), targets, label_smoothing=label_smoothing) for each in outcomes]
    return torch.stack(losses).mean()


def attention_penalty(attention: Tensor) -> Tensor:
    """How unevenly captions look at their picture: the mean over sentences and cells of (1 - Σ_t p_ti)².

    The doubly stochastic regulariser of Show, Attend and Tell, equation 14, as a mean over the cells where the paper
    has a sum, so that its weight does not depend on the grid.

    Args:
        attention: Weights, shape (sentences, steps, cells), 0 after a sentence's end. A sentence with no words (padding
            of the batch) does not count.
    """
    total = attention.sum(dim=1)  # (sentences, cells)
    real = total.sum(dim=1) > 0
    return (1 - total[real]).square().mean()


def location_loss(outcome: TeacherForced, baseline: Tensor, entropy_weight: float) -> tuple[Tensor, Tensor]:
    """How hard attention learns where to look: -(R - b) Σ_t log p(s_t) - λ Σ_t H(p_t), a word.

    REINFORCE on the variational bound of Show, Attend and Tell, section 4.1. The reward R of a caption is its mean
    log-probability a word, given the cells that were drawn; where the paper has the sum, the mean keeps long captions
    from outweighing the others. The baseline b follows R, and the entropy H keeps the draws from settling early.

    Args:
        outcome: What a decoder with hard attention made of known captions.
        baseline: b, a single number.
        entropy_weight: λ.

    Returns:
        The loss, which has gradients for the weights p alone, and the mean of R, for the baseline.
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
