"""Checks of Lightning's Trainer options, and filters of its messages."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from captioner.errors import CaptionerError
from captioner.training.tasks import best_mode

_GPU = ("gpu", "cuda", "mps")
_TELLING = ("callbacks", "profilers", "tuner")


def say_what_was_asked_for() -> None:
    """Silence Lightning's routine messages, except those requested from callbacks and profilers."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for part in (*_TELLING, "utilities.rank_zero"):
        logging.getLogger(f"lightning.pytorch.{part}").setLevel(logging.INFO)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_of_what_was_asked_for)


def _is_of_what_was_asked_for(record: logging.LogRecord) -> bool:
    """Whether a message of Lightning's first process comes from a requested source."""
    return record.levelno > logging.INFO or PurePath(record.pathname).parent.name in _TELLING


def is_on_cpu(trainer: Mapping[str, Any]) -> bool:
    """Whether a run uses the CPU.

    Args:
        trainer: The options of the trainer.
    """
    accelerator = trainer["accelerator"]
    return accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())


def refuse_hopeless(trainer: Mapping[str, Any]) -> None:
    """Refuse options that are unsupported here.

    Args:
        trainer: The options of the trainer.

    Raises:
        CaptionerError: There is one.
    """
    accelerator, devices = trainer["accelerator"], trainer["devices"]
    if accelerator in _GPU and not torch.accelerator.is_available():
        raise CaptionerError(f"trainer.accelerator is {accelerator}, but there is no GPU here; leave it out")
    if is_on_cpu(trainer) and devices != "auto" and not _is_count(devices):
        raise CaptionerError(
            f"trainer.devices is {devices}, but there is no GPU in use, and of CPU processes it is the number; leave "
            "it out, or give at least 1"
        )
    for option in ("enable_checkpointing", "limit_train_batches"):
        if trainer[option] is not None and not trainer[option]:
            raise CaptionerError(
                f"trainer.{option} is {str(trainer[option]).lower()}, but the best epoch becomes the captioner; leave "
                "it out"
            )
    for option in ("max_epochs", "max_steps", "val_check_interval"):
        if trainer[option] == 0:
            raise CaptionerError(f"trainer.{option} is 0; it must be greater, or leave it out")
    if trainer["barebones"]:
        raise CaptionerError("trainer.barebones keeps no checkpoint, but the best one is wanted; leave it out")


def refuse_copied_processes(trainer: lightning.Trainer) -> None:
    """Refuse strategies whose processes are copies of this one, or begin with its pickled objects: a run hangs.

    Args:
        trainer: The trainer.

    Raises:
        CaptionerError: It has one, such as ``ddp_spawn``, ``ddp_fork`` or ``ddp_notebook``.
    """
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        started = trainer.strategy.launcher._start_method
        raise CaptionerError(
            f"trainer.strategy starts its processes by {started}, which does not work here; set it to ddp, which "
            "starts the command anew for each"
        )


def _is_count(devices: object) -> bool:
    return str(devices).isdecimal() and int(str(devices)) > 0


def refuse_wrong_monitors(callbacks: Sequence[Callback], scores: Sequence[str]) -> None:
    """Refuse callbacks that monitor an unknown score, or with the wrong mode.

    Args:
        callbacks: The trainer's callbacks.
        scores: The validation scores.

    Raises:
        CaptionerError: One of them does.
    """
    watching = [each for each in callbacks if isinstance(each, (EarlyStopping, ModelCheckpoint))]
    for callback in watching:
        name, monitor = type(callback).__name__, callback.monitor
        if monitor is None or monitor.startswith("train/") or _can_log(callbacks):
            continue
        if monitor not in scores:
            raise CaptionerError(f"trainer.callbacks: {name} monitors {monitor!r}; choose one of {', '.join(scores)}")
        if callback.mode != (right := best_mode(monitor)):
            raise CaptionerError(
                f"trainer.callbacks: {name} has the mode {callback.mode!r}, but of {monitor} the {right} is best; set "
                f"mode to {right}"
            )


def _can_log(callbacks: Sequence[Callback]) -> bool:
    """Whether a custom callback may log other scores."""
    return any(type(each).__module__.split(".")[0] not in ("captioner", "lightning") for each in callbacks)


def describe_waiting(trainer: lightning.Trainer) -> str | None:
    """Describe which machines a distributed run waits for; None for one machine.

    Args:
        trainer: The trainer, before it trains.
    """
    strategy = trainer.strategy
    if trainer.num_nodes < 2 or not isinstance(strategy, DDPStrategy) or trainer.local_rank > 0:
        return None
    environment = strategy.cluster_environment
    if environment is None:
        return None
    node, others = environment.node_rank(), trainer.num_nodes - 1
    place = f"{environment.main_address}:{environment.main_port}"
    told = f"this is node {node} of {trainer.num_nodes}; it waits at {place} for {'node 0' if node else 'the others'}"
    if not isinstance(environment, LightningEnvironment):
        return told
    return (
        f"{told}. On each of the {others + 1} machines run the same command with MASTER_ADDR set to node 0's address, "
        "MASTER_PORT to a free port of it, and NODE_RANK to the machine's number from 0 on"
    )
