"""Attention that skips no part of the picture: the doubly stochastic penalty."""

from __future__ import annotations

from torch import Tensor

from captioner.training.objectives.objective import Objective, Term, TrainingStep


class AttentionPenalty(Objective):
    """The doubly stochastic regularizer of Show, Attend and Tell, equation 14.

    Args:
        weight: λ.
    """

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def __call__(self, step: TrainingStep) -> Term:
        """The penalty of the captions' attention."""
        assert step.outcome.attention is not None
        cells = step.outcome.attention[..., : step.grid.shape[1]]  # not the sentinel, which may have all of a sentence
        penalty = attention_penalty(cells)
        return Term(penalty, self.weight, logged={"attention_penalty": penalty})


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
