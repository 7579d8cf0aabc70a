"""Optimizer, learning rate schedule, and moving average."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from captioner.errors import CaptionerError
from captioner.training.options import OptimizerOptions


def make_optimizer(
    parts: Sequence[tuple[nn.Module, float]], options: OptimizerOptions, total: int
) -> OptimizerLRScheduler:
    """Adam with decoupled weight decay of matrices, with a learning rate for each part.

    Args:
        parts: Modules with their peak learning rates; frozen parameters are left out.
        options: Weight decay and warm-up.
        total: Number of steps of the run.
    """
    optimizer = torch.optim.AdamW(_groups(parts, options.weight_decay), fused=True)
    # Lightning refuses to clip for an optimizer that could unscale gradients in its own step; here a scaler unscales
    # before clipping.
    optimizer._step_supports_amp_scaling = False
    schedule = LambdaLR(optimizer, lambda step: warmup_cosine(step, options.warmup_steps, total))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def refuse_another_optimizer(
    checkpoint: Mapping[str, Any], parts: Sequence[tuple[nn.Module, float]], weight_decay: float
) -> None:
    """Refuse to resume with other learning rates, which the saved ones would replace, or other trained parts.

    Args:
        checkpoint: The Lightning checkpoint.
        parts: As for `make_optimizer`.
        weight_decay: Weight decay of matrices.

    Raises:
        CaptionerError: The run to resume had other options.
    """
    saved = [
        (len(group["params"]), group["initial_lr"], group["weight_decay"])
        for group in checkpoint["optimizer_states"][0]["param_groups"]
    ]
    wanted = [(len(group["params"]), group["lr"], group["weight_decay"]) for group in _groups(parts, weight_decay)]
    if saved != wanted:
        before, now = (
            ", ".join(f"{count} tensors at {rate:g} (decay {decay:g})" for count, rate, decay in groups)
            for groups in (saved, wanted)
        )
        raise CaptionerError(
            f"the checkpoint to resume from trains {before}, not {now}; resume with its own learning rates, "
            "model.optimizer.weight_decay and model.encoder.unfreeze_from, or begin a new phase with "
            "model.start.checkpoint"
        )


def _groups(parts: Sequence[tuple[nn.Module, float]], weight_decay: float) -> list[dict[str, Any]]:
    """The trained parameters, matrices and vectors separately."""
    groups = []
    for part, rate in parts:
        trained = [parameter for parameter in part.parameters() if parameter.requires_grad]
        for is_matrix, decay in ((True, weight_decay), (False, 0.0)):
            members = [parameter for parameter in trained if (parameter.ndim > 1) == is_matrix]
            if members:
                groups.append({"params": members, "lr": rate, "weight_decay": decay})
    return groups


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Share of the peak learning rate at a step: linear from 0 over ``warmup`` steps, then a half cosine to 0."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def moving_average(decay: float) -> WeightAveraging:
    """Build the callback that keeps, validates and saves an exponential moving average of the weights.

    In a checkpoint, ``state_dict`` holds the average, next to the current weights.

    Args:
        decay: Decay of the average per step, in (0, 1); lower at first, so that the average forgets the initial
            weights.
    """

    def step(average: Tensor, weights: Tensor, count: Tensor) -> Tensor:
        # Unlike the sum of two products, this keeps frozen weights bit for bit.
        return torch.lerp(average, weights, 1 - min(decay, float((1 + count) / (10 + count))))

    return WeightAveraging(use_buffers=False, avg_fn=step)
