"""Crash-safe checkpointing of training runs."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only

from captioner.errors import CaptionerError
from captioner.utils.console import print_status
from captioner.utils.files import replacing
from captioner.utils.signals import answered_by

LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"


class DurableCheckpoints(TorchCheckpointIO):
    """Writes checkpoints atomically, and keeps the previous one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write a checkpoint; called by Lightning.

        Raises:
            CaptionerError: It cannot be written; an existing file is intact.
        """
        path = Path(path)
        with replacing(path) as temporary:
            try:
                torch.save(checkpoint, temporary)
            except RuntimeError as error:  # torch's error for a failed write
                raise OSError(None, "the disk is full or a limit of the file's size is reached") from error
            if path.name == LAST and path.exists():
                # A hard link, so that there is a newest checkpoint at any moment.
                with replacing(path.with_name(PREVIOUS)) as previous:
                    previous.unlink()
                    try:
                        os.link(path, previous)
                    except OSError:  # FAT and many network file systems have no hard links
                        shutil.copyfile(path, previous)

    def load_checkpoint(self, path: str | Path, *arguments: Any, **options: Any) -> dict[str, Any]:  # noqa: ANN401
        """Read a checkpoint, always without unpickling; called by Lightning.

        Raises:
            CaptionerError: It is damaged, or would run code.
        """
        try:
            content: dict[str, Any] = super().load_checkpoint(path, *arguments, **{**options, "weights_only": True})
            if not {"state_dict", "loops", "optimizer_states"} <= content.keys():
                raise KeyError("loops")
        # The restricted unpickler executes nothing, but raises almost any exception for a damaged or hostile file.
        except Exception as error:
            raise CaptionerError(
                f"checkpoint {path} to resume from: was not written by captioner train, or is damaged, or would run "
                "code; it was not opened"
            ) from error
        for state in content.get("callbacks", {}).values():
            if isinstance(state, dict) and "best_k_models" in state:
                _find_best(state, Path(path).resolve().parent)
        return content


def _find_best(state: dict[str, Any], folder: Path) -> None:
    """Update paths in the state of a `ModelCheckpoint` after its folder was moved or copied.

    Lightning stores absolute paths, and would otherwise forget the best epoch.
    """
    moved = {file: folder / Path(file).name for file in state["best_k_models"]}
    if any(file.exists() for file in moved.values()):
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            if state.get(key):
                state[key] = str(folder / Path(state[key]).name)
        state["best_k_models"] = {str(moved[file]): score for file, score in state["best_k_models"].items()}
        state["dirpath"] = str(folder)


class SaveLast(ModelCheckpoint):
    """Writes ``last.ckpt`` at the end of each epoch; `SaveOften` covers runs that end within one.

    It has to come after the callback that keeps the best epoch, whose state it saves.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(
            folder, Path(LAST).stem, monitor=None, save_on_train_epoch_end=True, enable_version_counter=False
        )

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save, except within an epoch, which Lightning would count as finished."""
        _, batches = progress(trainer)
        if batches == 0:
            super().on_train_epoch_end(trainer, pl_module)


class SaveOften(Checkpoint):
    """Writes ``last.ckpt`` within epochs, too, after all other callbacks of a step.

    Args:
        folder: The run's folder.
        minutes: Minutes between checkpoints; 0 disables them.
        steps: Optimizer steps between checkpoints; 0 disables them.
        stop: Requests a checkpoint after the next step, and the end of the run.
    """

    def __init__(self, folder: str | Path, minutes: float, steps: int, stop: StopRequest) -> None:
        for name, value in (("save_every_minutes", minutes), ("save_every_steps", steps)):
            if value < 0:
                raise CaptionerError(f"{name} is {value}; it must be at least 0, which saves after epochs alone")
        self.folder = Path(folder)
        self.seconds = minutes * 60
        self.steps = steps
        self.stop = stop
        self._saved_at = time.monotonic()
        self._saved_step = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Requests to stop can wait for a checkpoint from here on."""
        self.stop.can_wait = not trainer.fast_dev_run  # type: ignore[attr-defined]
        self.stop.hear_sigterm()

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Requests to stop need not wait any more."""
        self.stop.can_wait = False

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: object, index: int
    ) -> None:
        """End the run if that was requested during the previous epoch, which is saved.

        Raises:
            KeyboardInterrupt: It was requested.
        """
        if index == 0:
            self._end_if_asked(trainer)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: object,
        index: int,
    ) -> None:
        """Save when due, between optimizer steps; an epoch's last batch is left to its end.

        A checkpoint before a validation would skip that validation when resumed, so it waits for the next step.

        Raises:
            KeyboardInterrupt: The end of the run was requested; it is saved.
        """
        is_last = index + 1 >= trainer.num_training_batches
        if is_last or (index + 1) % trainer.accumulate_grad_batches or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        ends = trainer.should_stop or 0 < trainer.max_steps <= trainer.global_step
        if _is_validated(trainer, index) and not ends:
            return
        by_steps = self.steps > 0 and trainer.global_step - self._saved_step >= self.steps
        by_time = self.seconds > 0 and time.monotonic() - self._saved_at >= self.seconds
        if _any(trainer, ends or by_steps or by_time or self.stop.made):
            trainer.save_checkpoint(self.folder / LAST)
            self._saved_at = time.monotonic()
            self._saved_step = trainer.global_step
            self._end_if_asked(trainer)

    def _end_if_asked(self, trainer: lightning.Trainer) -> None:
        """Raise KeyboardInterrupt in all processes if the end was requested in one."""
        if _any(trainer, self.stop.made):
            rank_zero_only(print_status)(f"captioner: rerun with --resume {self.folder / LAST} to continue")
            raise KeyboardInterrupt


def _is_validated(trainer: lightning.Trainer, index: int) -> bool:
    """Whether a validation follows a batch within an epoch; False if one follows every batch."""
    every = trainer.val_check_batch
    if every is None or every == 1:
        return False
    done = index if trainer.check_val_every_n_epoch is not None else trainer.fit_loop.epoch_loop.total_batch_idx
    return (done + 1) % every == 0


def _any(trainer: lightning.Trainer, wanted: bool) -> bool:
    """Whether the value is true in any process; all must call it."""
    return trainer.strategy.reduce_boolean_decision(wanted, all=False)


def progress(trainer: lightning.Trainer) -> tuple[int, int]:
    """The current epoch, and the number of its finished batches."""
    loop = trainer.fit_loop
    begun: int = loop.epoch_progress.current.started  # type: ignore[attr-defined]
    batches: int = loop.epoch_loop.batch_progress.current.processed  # type: ignore[attr-defined]
    return (begun, 0) if batches >= trainer.num_training_batches else (begun - 1, batches)


def newest_whole(path: Path) -> Path:
    """The checkpoint to resume from: the given one, or the previous one if it is damaged.

    Raises:
        CaptionerError: There is none, or all are damaged.
    """
    previous = path.with_name(PREVIOUS)
    if _is_whole(path):
        return path
    if path.name == LAST and _is_whole(previous):
        rank_zero_only(print_status)(f"captioner: {path} is missing or damaged; the run goes on from {previous}")
        return previous
    if not path.is_file():
        raise CaptionerError(f"checkpoint {path} to resume from: no such file; it is last.ckpt in the run's folder")
    with path.open("rb") as file:
        start = file.read(2)
    if start.strip(b"\0") and start != b"PK":
        raise CaptionerError(
            f"checkpoint {path} to resume from: is no checkpoint of a run; give last.ckpt in the run's folder, or to "
            "begin a new run with a model's weights set model.start.checkpoint"
        )
    raise CaptionerError(f"checkpoint {path} to resume from: is damaged or truncated; start a new run or give another")


def _is_whole(path: Path) -> bool:
    """Whether a file is an intact zip archive, as Lightning's checkpoints are."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # almost any exception, depending on the damage
        return False


_TOLD = b"captioner: saves what was learned, then ends; Ctrl-C again ends at once\n"


class StopRequest:
    """A request to end a run.

    Attributes:
        can_wait: Whether a callback will check ``made`` and save a checkpoint.
        made: Whether the end was requested.
    """

    def __init__(self) -> None:
        self.can_wait = False
        self.made = False
        self._process = os.getpid()

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Treat the first SIGINT as a request if it can wait; later ones act as usual."""
        before = signal.getsignal(signal.SIGINT)
        if not callable(before):  # ignored by the shell
            yield
            return
        with answered_by(partial(self._hear, before)):
            yield

    def hear_sigterm(self) -> None:
        """Treat SIGTERM as a request, too, until Lightning restores its own handler.

        Lightning would end the run at once during validation, and lose the epoch.
        """
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, partial(self._hear, signal.default_int_handler))

    def _hear(self, otherwise: Callable[[int, FrameType | None], object], number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a data loading process, which the training process ends
            return
        if self.can_wait and not self.made:
            self.made = True
            rank_zero_only(os.write)(2, _TOLD)
        else:
            otherwise(number, frame)
