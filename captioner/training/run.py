"""Run training from the command line, with LightningCLI over model, data and trainer."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import lightning
import torch
from jsonargparse import capture_parser
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.utilities import rank_zero_only

from captioner import checkpoint
from captioner.errors import CaptionerError
from captioner.models import inference
from captioner.training.allowed_imports import importing_only
from captioner.training.callbacks import RefuseUnvalidated, SaveConfigOnce, ScoreLines, StayStopped
from captioner.training.checkpointing import (
    LAST,
    PREVIOUS,
    DurableCheckpoints,
    SaveLast,
    SaveOften,
    StopRequest,
    newest_whole,
)
from captioner.training.error_messages import errors_in_one_line
from captioner.training.help import asks_for_help, short_help
from captioner.training.option_errors import explain
from captioner.training.progress import ProgressLines
from captioner.training.renamed_options import refuse_renamed
from captioner.training.run_arguments import (
    Configuration,
    parse_some,
    read_configurations,
    take_allowed_packages,
    with_configuration_of_its_run,
)
from captioner.training.run_dir import held, refuse_to_overwrite
from captioner.training.tasks import TASKS, best_mode
from captioner.training.trainer_options import (
    describe_waiting,
    is_on_cpu,
    refuse_copied_processes,
    refuse_hopeless,
    refuse_wrong_monitors,
    say_what_was_asked_for,
)
from captioner.utils.console import print_status
from captioner.utils.runtime import keep_freed_memory

Part = TypeVar("Part")

_AUTO = "auto"
"""The mode of the monitored score."""

_HALVES = frozenset({"bf16-mixed", "bf16", "16-mixed", "16"})
"""Precisions that Lightning runs in bfloat16 on a CPU."""

EXPECTED_WARNINGS = (
    "LightningCLI's args parameter",  # the arguments are passed on purpose
    "Found .* in eval mode",  # a frozen encoder is
    "Checkpoint directory .* exists",  # a resumed run's is
    ".*does not have many workers",  # cached features need none
    "You're resuming from a checkpoint that ended before the epoch ended",  # DrawSampler skips what was seen
    "The number of training batches .* is smaller than the logging interval",  # of a small data set
    "It is recommended to use `self.log\\('val/",  # in several processes the scores are those of all, in each
    "You're using the WeightAveraging callback with a model that overrides",  # its configure_model may be called twice
    ".*treespec, LeafSpec",  # Lightning with newer torch
)
"""Lightning's warnings that do not apply here."""


class OneLineParser(LightningArgumentParser):
    """A parser with one-line errors."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a one-line error instead of printing all options."""
        raise CaptionerError(f"train: {explain(message, self._option_string_actions)}") from ex


class CaptionerCLI(LightningCLI):
    """LightningCLI with checkpoints of the best epoch, early stopping, and ``--resume``.

    Args:
        task: The task.
        args: The command line.
    """

    def __init__(self, task: str, args: Sequence[str]) -> None:
        self.task = task
        super().__init__(
            TASKS[task].model,
            TASKS[task].data,
            run=False,
            args=list(args),
            seed_everything_default=1,
            save_config_callback=SaveConfigOnce,
            auto_configure_optimizers=False,
            trainer_defaults={"default_root_dir": "runs/captioner", "logger": None, "enable_model_summary": False},
            parser_kwargs={"prog": "captioner train", "description": "Train a captioner or a language model."},
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:  # noqa: ANN401 (as in LightningCLI)
        """Build the parser; a hook of LightningCLI."""
        kwargs.pop("dump_header", None)
        parser = OneLineParser(allow_abbrev=False, **kwargs)
        parser.add_argument("-c", "--config", action="config", help="configuration file in YAML")
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the command line, with a shorter help text; a hook of LightningCLI."""
        assert isinstance(args, list)
        if asks_for_help(args) == "short":
            print(short_help(parser._actions))
            raise SystemExit(0)
        if asks_for_help(args) == "all":
            parser.print_help()
            raise SystemExit(0)
        super().parse_arguments(parser, args)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add arguments; a hook of LightningCLI."""
        task = TASKS[self.task]
        parser.add_argument("--task", type=Literal[tuple(TASKS)], default=self.task, help="what is trained")
        parser.add_argument("--resume", type=str, default=None, help="run's folder, or its last.ckpt, to resume from")
        text = "whether to write over the run that is in trainer.default_root_dir"
        parser.add_argument("--overwrite", type=bool, default=False, help=text)
        text = "minutes between checkpoints to resume from within an epoch; 0 for none"
        parser.add_argument("--save_every_minutes", type=float, default=10.0, help=text)
        parser.add_argument("--save_every_steps", type=int, default=0, help="the same in steps of the optimiser")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.set_defaults(
            {
                "checkpoint.monitor": task.score,
                "checkpoint.mode": _AUTO,
                "checkpoint.filename": "best",
                "checkpoint.enable_version_counter": False,
                "early_stopping.monitor": task.score,
                "early_stopping.mode": _AUTO,
                "early_stopping.patience": 5,
            }
        )
        parser.link_arguments("data", "model.data", apply_on="instantiate")
        parser.link_arguments("trainer.default_root_dir", "checkpoint.dirpath")

    def before_instantiate_classes(self) -> None:
        """Refuse options that would fail after hours, and runs that would overwrite others."""
        if self.config["trainer"]["default_root_dir"] in (None, ""):
            raise CaptionerError("trainer.default_root_dir is empty; name a folder for the run")
        if self.config["resume"] and Path(self.config["resume"]).is_dir():
            self.config["resume"] = str(Path(self.config["resume"]) / LAST)
        root, task = Path(self.config["trainer"]["default_root_dir"]), TASKS[self.task]
        refuse_to_overwrite(root, task.file, self.config["resume"], self.config["overwrite"])
        refuse_hopeless(self.config["trainer"])
        self._avoid_slow_halves()
        for part in ("checkpoint", "early_stopping"):
            monitor, mode = self.config[part]["monitor"], self.config[part]["mode"]
            if monitor not in task.scores:
                raise CaptionerError(f"{part}.monitor is {monitor!r}; choose one of {', '.join(task.scores)}")
            right = best_mode(monitor)
            if mode not in (_AUTO, right):
                raise CaptionerError(f"{part}.mode is {mode!r}, but of {monitor} the {right} is best; leave it out")
            self.config[part]["mode"] = right
        kept, name = self.config["checkpoint"]["save_top_k"], self.config["checkpoint"]["filename"]
        if kept == 0:
            raise CaptionerError(
                "checkpoint.save_top_k is 0, but the best epoch becomes the captioner; keep at least 1"
            )
        if kept != 1 and "{" not in name:
            raise CaptionerError(
                f"checkpoint.save_top_k is {kept}, but all epochs would be called {name!r}; set checkpoint.filename to "
                "'{epoch}'"
            )
        if f"{name}.ckpt" in (LAST, PREVIOUS):
            raise CaptionerError(f"checkpoint.filename is {name!r}, the newest epoch's; choose another")

    def _avoid_slow_halves(self) -> None:
        """Fall back to float32 on CPUs where bfloat16 would be much slower."""
        trainer = self.config["trainer"]
        if is_on_cpu(trainer) and str(trainer["precision"]) in _HALVES and not inference.has_fast_bfloat16():
            message = (
                f"bfloat16 is slow on this CPU, as far as is known: trains in 32-true, not in {trainer['precision']}"
            )
            rank_zero_only(print_status)(f"captioner: {message}")
            trainer["precision"] = "32-true"

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:  # noqa: ANN401 (as in LightningCLI)
        """Log to TensorBoard in the run's folder, and show the progress bar only on a terminal."""
        config, task = self.config_init["trainer"], TASKS[self.task]
        root = config["default_root_dir"]
        if config["logger"] is None:
            kwargs.setdefault("logger", TensorBoardLogger(root, name="tensorboard", version=""))
        plugins = _listed(config["plugins"])
        if not any(isinstance(each, CheckpointIO) for each in plugins):
            kwargs.setdefault("plugins", [*plugins, DurableCheckpoints()])
        # CaptionData's own sampler divides images among processes; Lightning's would validate some twice.
        kwargs["use_distributed_sampler"] = False
        bars = [each for each in _listed(config["callbacks"]) if isinstance(each, ProgressBar)]
        wanted = config["enable_progress_bar"]
        has_bar = sys.stderr.isatty() or bool(bars) if wanted is None else wanted
        kwargs.setdefault("enable_progress_bar", has_bar)
        if has_bar and not bars and not sys.stderr.isatty():  # where Lightning's Rich progress bar would draw nothing
            kwargs.setdefault("callbacks", [*_listed(config["callbacks"]), TQDMProgressBar()])
        with errors_in_one_line():
            trainer = super().instantiate_trainer(**kwargs)
        refuse_copied_processes(trainer)
        refuse_wrong_monitors(trainer.callbacks, task.scores)  # type: ignore[attr-defined]
        if not trainer.limit_val_batches:
            raise CaptionerError("trainer.limit_val_batches is 0, but the best epoch is chosen by validation; raise it")
        if trainer.overfit_batches:  # type: ignore[attr-defined]
            raise CaptionerError(
                "trainer.overfit_batches would draw images in an order of its own; lower "
                "trainer.limit_train_batches instead"
            )
        if trainer.accumulate_grad_batches < 1:
            accumulated = trainer.accumulate_grad_batches
            raise CaptionerError(f"trainer.accumulate_grad_batches is {accumulated}; it must be at least 1")
        if (config["gradient_clip_val"] or 0) < 0:
            raise CaptionerError(f"trainer.gradient_clip_val is {config['gradient_clip_val']}; it must be at least 0")
        if trainer.max_epochs == trainer.max_steps == -1:
            raise CaptionerError(
                "the cosine schedule needs a training length; set trainer.max_epochs or trainer.max_steps"
            )
        if trainer.precision.endswith("-true") and trainer.precision != "32-true":
            raise CaptionerError(
                f"trainer.precision {trainer.precision} is not supported; choose bf16-mixed, 16-mixed or 32-true"
            )
        self.stop = StopRequest()
        minutes, steps = (self.config_init[f"save_every_{unit}"] for unit in ("minutes", "steps"))
        often = SaveOften(root, minutes, steps, self.stop)
        message = [ScoreLines()] if has_bar or wanted is False else [ProgressLines(), ScoreLines()]
        trainer.callbacks += [RefuseUnvalidated(), StayStopped(), *message, often, SaveLast(root)]  # type: ignore[attr-defined]
        return trainer

    def instantiate_classes(self) -> None:
        """Build model, data and trainer; a hook of LightningCLI."""
        with errors_in_one_line():
            super().instantiate_classes()


def _listed(given: Part | list[Part] | None) -> list[Part]:
    return given if isinstance(given, list) else [given] if given else []


def parse(args: Sequence[str]) -> CaptionerCLI:
    """Parse a run's arguments and build its model, data and trainer.

    Args:
        args: ``--config FILE`` and overrides such as ``--trainer.max_epochs 3``.

    Raises:
        CaptionerError: Arguments, data or encoder are unusable.
        SystemExit: The arguments ask for help.
    """
    _silence_what_is_expected()
    configurations = read_configurations(args)
    refuse_renamed(configurations, args)
    try:
        return CaptionerCLI(task_of(configurations, args), args)
    # Errors of Lightning and jsonargparse, which validate on use, and of loggers that are not installed.
    except (ValueError, ImportError, MisconfigurationException) as error:
        raise CaptionerError(f"train: {explain(str(error), ())}") from error


def _silence_what_is_expected() -> None:
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    say_what_was_asked_for()


def options(task: str = "captioning") -> list[argparse.Action]:
    """All options of training.

    Args:
        task: One of `TASKS`.
    """
    _silence_what_is_expected()
    return list(capture_parser(lambda: CaptionerCLI(task, []))._actions)


def task_of(configurations: Sequence[Configuration], args: Sequence[str]) -> str:
    """Read the task, which decides about the other arguments, from a command line.

    Args:
        configurations: The configuration files that the command line names, in its order.
        args: As for `parse`.

    Raises:
        CaptionerError: The task is unknown.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--task")
    known, _ = parse_some(first, args)
    tasks = [known.task, *(each.fields.get("task") for each in reversed(configurations))]
    task = next((each for each in tasks if each is not None), "captioning")
    if not isinstance(task, str) or task not in TASKS:
        raise CaptionerError(f"train: task {task!r} is unknown; choose {' or '.join(TASKS)}")
    return task


def train(args: Sequence[str]) -> Path | None:
    """Train and write the best epoch as a checkpoint of this project.

    Args:
        args: As for `parse`.

    Returns:
        The file ``captioner.safetensors`` or ``language_model.safetensors`` in the run's folder; None in all processes
        but the first, and after ``trainer.fast_dev_run``, which saves nothing.

    Raises:
        CaptionerError: An input is unusable, or a process of the run has ended.
    """
    keep_freed_memory()
    torch.set_float32_matmul_precision("high")
    packages, args = take_allowed_packages(args)
    # Until the end: saving the configuration validates it again.
    with importing_only(packages):
        return _train(with_configuration_of_its_run(args))


def _train(args: Sequence[str]) -> Path | None:
    cli = parse(args)
    resume = cli.config["resume"]
    if resume is not None:
        resume = newest_whole(Path(resume))
    cli.model.configure_model()  # reports unusable files before the run's folder is created
    root = Path(cli.trainer.default_root_dir)
    if waiting := describe_waiting(cli.trainer):
        print_status(f"captioner: {waiting}")
    keeps = cli.trainer.is_global_zero and not cli.trainer.fast_dev_run  # type: ignore[attr-defined]
    with held(root) if keeps else nullcontext():
        with errors_in_one_line(), cli.stop.heard():
            cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=resume, weights_only=True)
        if not keeps:
            return None
        best = cli.trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]
        if not best:
            raise CaptionerError("no epoch was completed, so no checkpoint was written; train for at least one epoch")
        target = root / TASKS[cli.task].file
        checkpoint.write(target, checkpoint.read(best))
        return target
