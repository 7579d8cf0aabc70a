"""Progress lines for runs without a progress bar."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, Timer

from captioner.utils.console import print_status
from captioner.utils.counter import Pulse, in_words


class ProgressLines(Callback):
    """Prints on standard error: data and device at the start, then every minute step, loss and the time left.

    The time left is an upper bound, since a run may stop early.
    """

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print the data, before two batches of validation are tried; called by Lightning."""
        if trainer.is_global_zero:
            data = trainer.datamodule.describe()  # type: ignore[attr-defined]
            print_status(f"captioner: {_sizes(data)}")

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print device and length; called by Lightning."""
        self._pulse, self._begun, self._batches = Pulse(), time.monotonic(), 0
        if trainer.is_global_zero:
            epochs = f"at most {trainer.max_epochs} epochs" if (trainer.max_epochs or 0) > 0 else "no limit of epochs"
            steps = f", at most {trainer.max_steps} steps in all" if trainer.max_steps > 0 else ""
            print_status(
                f"captioner: trains on {pl_module.device}, {trainer.num_training_batches} steps an epoch, "
                f"{epochs}{steps}; the log and the checkpoints are in {trainer.default_root_dir}"
            )

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Print a line if it is due; called by Lightning after each step."""
        self._batches += 1
        if trainer.is_global_zero and self._pulse.is_due():
            loss = float(trainer.callback_metrics["train/loss"])
            left = (time.monotonic() - self._begun) / self._batches * _batches_left(trainer, batch_idx + 1)
            timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
            left = min([left, *map(_timer_left, timers)])
            print_status(
                f"epoch {trainer.current_epoch + 1}, step {batch_idx + 1} of {trainer.num_training_batches}, "
                f"train/loss {loss:.4f}, at most {in_words(left)} left"
            )

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Print a line if it is due; called by Lightning after each validation batch."""
        if trainer.sanity_checking or not trainer.is_global_zero or not self._pulse.is_due():
            return
        batches = trainer.num_val_batches[dataloader_idx]
        print_status(f"epoch {trainer.current_epoch + 1}, validation, batch {batch_idx + 1} of {batches}")


def _sizes(data: Mapping[str, Any]) -> str:
    """Format the data's description, without file names."""
    return ", ".join(f"{name}: {value}" for name, value in data.items() if not isinstance(value, list))


def _batches_left(trainer: lightning.Trainer, index: int) -> float:
    """Upper bound of the remaining batches."""
    batches = trainer.num_training_batches
    done = trainer.current_epoch * batches + index
    totals = [float("inf")]
    if (trainer.max_epochs or 0) > 0:
        totals.append((trainer.max_epochs or 0) * batches)
    if trainer.max_steps > 0:
        totals.append(done + (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches)
    return max(0.0, min(totals) - done)


def _timer_left(timer: Timer) -> float:
    left = timer.time_remaining()
    return float("inf") if left is None else max(0.0, left)
