"""``captioner completion``: print a shell's completion script."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

SUMMARY = "print a script that completes verbs, options and files in a shell"
SHELLS = ("bash", "zsh", "tcsh")
_FILES = ("FILE", "PHOTO", "CHECKPOINT", "BOXES")
"""Prefixes of metavars that stand for a file."""
_TRAINING_FILES = (
    "config",
    "resume",
    "data.captions",
    "data.feature_cache",
    "model.start.checkpoint",
    "model.start.word_vectors",
)
_TRAINING_FOLDERS = ("data.images", "data.splits", "trainer.default_root_dir")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("shell", choices=SHELLS, help='which shell, as in: eval "$(captioner completion bash)"')


def run(args: argparse.Namespace) -> int:
    """Print the script, which does not start Python."""
    import shtab

    from captioner.cli import make_parser

    parser = make_parser()
    for name, verb in _verbs(parser):
        if name == "train":
            _add_training_options(verb)
        for action in verb._actions:
            metavar = action.metavar if isinstance(action.metavar, str) else ""
            if metavar.startswith(_FILES):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif metavar.startswith("DIR"):
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(parser, shell=args.shell))
    return 0


def _verbs(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add LightningCLI's options to the parser of ``captioner train``."""
    from captioner.training.allowed_imports import OPTION
    from captioner.training.help import choices, describe, shown_options
    from captioner.training.run import options

    parser.add_argument("--help", help="show the options", choices=["all"], nargs="?")
    parser.add_argument(OPTION, help="let configurations name classes of this package too")
    for action in shown_options(options()):
        names = [name for name in action.option_strings if not name.endswith("+")]
        metavar = "FILE" if action.dest in _TRAINING_FILES else "DIR" if action.dest in _TRAINING_FOLDERS else None
        help_ = describe(action).replace("%", "%%")
        parser.add_argument(*names, dest=action.dest, help=help_, choices=choices(action), metavar=metavar)
