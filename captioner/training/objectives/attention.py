"""Doubly stochastic attention regularization."""

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
        """Compute the penalty of the captions' attention."""
        assert step.outcome.attention is not None
        cells = step.outcome.attention[..., : step.grid.shape[1]]  # without the sentinel
        penalty = attention_penalty(cells)
        return Term(penalty, self.weight, logged={"attention_penalty": penalty})


def attention_penalty(attention: Tensor) -> Tensor:
    """Doubly stochastic regularizer: the mean over captions and regions of (1 - Σ_t p_ti)².

    Show, Attend and Tell, equation 14, with a mean over regions instead of the paper's sum, so that its weight does not
    depend on the grid.

    Args:
        attention: Weights, shape (captions, steps, regions), 0 after a caption's end. Captions without words (padding
            of the batch) are ignored.
    """
    total = attention.sum(dim=1)  # (sentences, cells)
    real = total.sum(dim=1) > 0
    return (1 - total[real]).square().mean()
