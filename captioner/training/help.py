"""Short help of training: this project's options by subject, with a few of Lightning's."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterable, Sequence

from captioner.training.allowed_imports import OPTION

EXAMPLES = (
    ("what a configuration file says, with one value changed", "--config my.yaml --trainer.max_epochs 3"),
    ("a table of captions and a folder of images", "--data.captions captions.csv --data.images photos"),
    ("only to try whether all works", "--config my.yaml --trainer.fast_dev_run true"),
    ("go on with a run that was interrupted", "--resume runs/captioner"),
    (
        "train the CNN too, from where a run with a frozen one ended",
        "--config my.yaml --model.start.checkpoint runs/captioner/captioner.safetensors \\\n"
        "      --model.encoder.unfreeze_from all --trainer.default_root_dir runs/tuned",
    ),
)
"""Purpose, and the arguments after ``captioner train``."""

_SUBJECTS = {
    "": "Run",
    "data": "Data",
    "model": "Model",
    "model.encoder": "Encoder",
    "model.decoder": "Decoder",
    "model.start": "Start",
    "model.optimizer": "Optimizer",
    "model.losses": "Losses",
    "model.noise": "Noise",
    "model.self_critical": "Self-critical training",
    "model.distillation": "Distillation",
    "checkpoint": "Best epoch",
    "early_stopping": "Early stop",
    "trainer": "Trainer",
}
_OF_LIGHTNING = {
    "seed_everything": "seed of all that is drawn at random",
    "trainer.max_epochs": "epochs at most",
    "trainer.max_steps": "steps of the optimizer at most",
    "trainer.max_time": "time at most, as DD:HH:MM:SS",
    "trainer.fast_dev_run": "try a run of one batch, or of so many; nothing is kept",
    "trainer.limit_train_batches": "batches of an epoch, or their share",
    "trainer.val_check_interval": "batches between validations, or their share of an epoch",
    "trainer.accelerator": "cpu, gpu or auto",
    "trainer.devices": "number of GPUs or processes, or a list of GPUs",
    "trainer.num_nodes": "machines that train together",
    "trainer.precision": "32-true, bf16-mixed or 16-mixed",
    "trainer.gradient_clip_val": "greatest norm of the gradient",
    "trainer.accumulate_grad_batches": "batches of a step of the optimizer",
    "trainer.default_root_dir": "the run's folder",
    "trainer.logger": "class of a logger, such as CSVLogger; false for none (default TensorBoard)",
    "trainer.callbacks": "classes of callbacks, such as LearningRateMonitor",
    "trainer.profiler": "simple, advanced or pytorch: tell what the time was spent on",
    "checkpoint.monitor": "validation score by which it is chosen",
    "checkpoint.save_top_k": "how many are kept",
    "checkpoint.filename": "what its file is called",
    "early_stopping.monitor": "validation score that has to improve",
    "early_stopping.patience": "validations without improvement after which training ends",
    "early_stopping.min_delta": "least improvement that counts",
}
"""Lightning's options that are shown."""
_LIGHTNING = ("trainer", "checkpoint", "early_stopping")
_COLUMN = 36
_WIDTH = 115


def asks_for_help(args: Sequence[str]) -> str | None:
    """Determine which help is requested.

    Args:
        args: The arguments after ``captioner train``.

    Returns:
        ``short`` or ``all``; None for no help.
    """
    for place, word in enumerate(args):
        if word in ("-h", "--help", "--help=all"):
            return "all" if word.endswith("=all") or [*args, ""][place + 1] == "all" else "short"
    return None


def shown_options(actions: Iterable[argparse.Action]) -> list[argparse.Action]:
    """Select the options to show: this project's, and common ones of Lightning's.

    Args:
        actions: All actions of the parser.
    """
    return [action for action in actions if _is_shown(action)]


def _is_shown(action: argparse.Action) -> bool:
    if not any(option.startswith("-") for option in action.option_strings) or action.dest in ("help", "print_config"):
        return False
    if action.dest.endswith(".help") or action.metavar == "CONFIG":
        return False
    return action.dest.partition(".")[0] not in _LIGHTNING or action.dest in _OF_LIGHTNING


def describe(action: argparse.Action) -> str:
    """Summarize an option.

    Args:
        action: The option; the first sentence of its docstring is used.
    """
    if action.dest in _OF_LIGHTNING:
        return _OF_LIGHTNING[action.dest]
    text = " ".join((action.help or "").replace("`", "").split())
    text = re.split(r"\.(?: |$)", text)[0]
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def choices(action: argparse.Action) -> list[str] | None:
    """Return the possible values of an option; None if unlimited.

    Args:
        action: The option.
    """
    if isinstance(action.metavar, str) and action.metavar.startswith("{"):
        return action.metavar.strip("{}").split(",")
    return None


def short_help(actions: Iterable[argparse.Action]) -> str:
    """Write the short help.

    Args:
        actions: All actions of the parser.
    """
    lines = ["usage: captioner train --config FILE [--OPTION VALUE ...]", ""]
    lines += ["Train a captioner, or a language model (--task language_model). Options may stand in a YAML file.", ""]
    for purpose, words in EXAMPLES:
        lines += [f"  # {purpose}", f"  captioner train {words}"]
    groups: dict[str, list[argparse.Action]] = {}
    for action in shown_options(actions):
        groups.setdefault(action.dest.rpartition(".")[0], []).append(action)
    for subject in sorted(groups, key=lambda each: (each in _LIGHTNING, each)):
        lines += ["", _SUBJECTS.get(subject, subject)]
        for action in groups[subject]:
            lines += _row(_name(action), _told(action))
        if not subject:
            text = "let configurations name classes of this package too; given again, of further ones"
            lines += [*_row(f"{OPTION} NAME", text), *_row("--help all", "all options, Lightning's too")]
    return "\n".join(lines)


def _name(action: argparse.Action) -> str:
    """The option's full name, without variants that append to a list and single letters."""
    return next(option for option in action.option_strings if option.startswith("--") and not option.endswith("+"))


def _told(action: argparse.Action) -> str:
    default = action.default
    if isinstance(default, bool):
        default = str(default).lower()
    end = "" if default in (None, argparse.SUPPRESS) else f" (default {default})"
    if (names := choices(action)) and names[0] != "true":
        end = f" ({', '.join(names)};{end.replace(' (', ' ')}"
    return textwrap.shorten(describe(action), max(30, _WIDTH - _COLUMN - len(end)), placeholder=" …") + end


def _row(option: str, text: str) -> list[str]:
    """Format a line, or two if the option's name is long."""
    name = f"  {option}"
    return [f"{name:<{_COLUMN}}{text}"] if len(name) < _COLUMN else [name, " " * _COLUMN + text]
