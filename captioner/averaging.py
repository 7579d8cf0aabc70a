"""The moving average of a model's weights, which is better than the weights of any one step."""

from __future__ import annotations

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from captioner.errors import CaptionerError


def moving_average(decay: float) -> WeightAveraging:
    """The callback that keeps an exponential moving average, validates it, and puts it into checkpoints.

    In a checkpoint, ``state_dict`` holds the average, and what training goes on with lies beside it.

    Args:
        decay: Share of the average that a step leaves, in (0, 1). It is less at first, so that an average does not
            remember the weights that the run began with.

    Raises:
        CaptionerError: The share is none.
    """
    if not 0 < decay < 1:
        raise CaptionerError(f"model.ema is {decay}; it must be more than 0, or 0 for none, and less than 1")

    def step(average: Tensor, weights: Tensor, count: Tensor) -> Tensor:
        # Unlike the sum of two products, this leaves a weight that is not trained as it is, to the bit.
        return torch.lerp(average, weights, 1 - min(decay, float((1 + count) / (10 + count))))

    return WeightAveraging(use_buffers=False, avg_fn=step)
