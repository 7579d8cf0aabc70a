"""What every run does beside its steps: tell, refuse, stay stopped, keep its configuration."""

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
"""Scores in the line of an epoch."""


class ScoreLines(Callback):
    """Writes the validation scores of each epoch as a line on standard error."""

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Lightning calls it after the scores are in."""
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
    """Refuses a run that would end before its first validation, by which the best epoch is chosen."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Lightning calls it when it knows how many batches there are.

        Raises:
            CaptionerError: It is such a run.
        """
        if trainer.val_check_batch is None:  # it is a matter of time
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
    """Ends a resumed run at once where an early stop had ended it, and is not given more patience now."""

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Lightning calls it before a checkpoint, which has the patience of before, is taken up."""
        self._patience = [stop.patience for stop in trainer.early_stopping_callbacks]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Lightning calls it when a checkpoint to resume from has been taken up."""
        for stop, patience in zip(trainer.early_stopping_callbacks, self._patience, strict=True):
            stop.patience = patience
            trainer.should_stop |= stop.wait_count >= max(1, patience)


class SaveConfigOnce(SaveConfigCallback):
    """Keeps the run's configuration beside its checkpoints, whole or not at all; a resumed run may replace it.

    What allowed this start alone, ``--resume`` and ``--overwrite``, is left out: given again, the file must neither go
    on with this run nor write over it.
    """

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Leave alone what Lightning would write here: the run may yet be refused."""

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Lightning calls it when a checkpoint to resume from has been taken up."""
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            config, root = self.config.clone(), Path(trainer.default_root_dir)
            if config["overwrite"] and not config["resume"]:
                forget(root, TASKS[config["task"]].file)
            config["resume"], config["overwrite"] = None, False
            with replacing(root / "config.yaml") as path:
                path.write_text(self.parser.dump(config, skip_none=False))
