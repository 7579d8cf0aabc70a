"""Callbacks of every run."""

from __future__ import annotations

from pathlib import Path

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import SaveConfigCallback

from captioner.errors import CaptionerError
from captioner.training.run_dir import forget
from captioner.training.tasks import TASKS
from captioner.utils.console import print_status
from captioner.utils.files import replacing

_SHOWN = ("train/loss", "val/loss", "val/perplexity", "val/BLEU-4", "val/CIDEr")
"""Scores shown for an epoch."""


class ScoreLines(Callback):
    """Prints the validation scores of each epoch on standard error."""

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print the scores; called by Lightning after validation."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        shown = {
            name.removeprefix("val/"): f"{float(value):.4f}"
            for name, value in trainer.callback_metrics.items()
            if name in _SHOWN
        }
        line = "  ".join(f"{name} {value}" for name, value in sorted(shown.items()))
        print_status(f"epoch {trainer.current_epoch + 1}: {line}")


class RefuseUnvalidated(Callback):
    """Refuses a run that would end before its first validation."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Check the run; called by Lightning once the number of batches is known.

        Raises:
            CaptionerError: Training would end before the first validation.
        """
        if trainer.val_check_batch is None:  # the interval is a time
            return
        epochs = trainer.check_val_every_n_epoch or 1
        first = (epochs - 1) * trainer.num_training_batches + trainer.val_check_batch
        steps, most = trainer.max_steps * trainer.accumulate_grad_batches, trainer.max_epochs or 0
        if 0 < steps < first or 0 < most < epochs:
            raise CaptionerError(
                f"training would end before the first validation, after {first} batches; raise trainer.max_steps or "
                "trainer.max_epochs, or lower trainer.limit_train_batches or trainer.check_val_every_n_epoch"
            )


class StayStopped(Callback):
    """Ends a resumed run that early stopping had ended, unless its patience has been raised."""

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Remember the configured patience; called by Lightning before a checkpoint overwrites it."""
        self._patience = [stop.patience for stop in trainer.early_stopping_callbacks]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Called by Lightning after a checkpoint has been restored."""
        for stop, patience in zip(trainer.early_stopping_callbacks, self._patience, strict=True):
            stop.patience = patience
            trainer.should_stop |= stop.wait_count >= max(1, patience)


class SaveConfigOnce(SaveConfigCallback):
    """Saves the run's configuration next to its checkpoints, atomically; a resumed run may replace it.

    ``--resume`` and ``--overwrite`` are left out, so that reusing the file neither continues nor overwrites this run.
    """

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Do nothing yet, unlike Lightning: the run may still be refused."""

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Called by Lightning after a checkpoint has been restored."""
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            config, root = self.config.clone(), Path(trainer.default_root_dir)
            if config["overwrite"] and not config["resume"]:
                forget(root, TASKS[config["task"]].file)
            config["resume"], config["overwrite"] = None, False
            with replacing(root / "config.yaml") as path:
                path.write_text(self.parser.dump(config, skip_none=False))
