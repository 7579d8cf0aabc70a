"""Command line that the text tasks share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from text_encoder import CHOICES, TextConfig
from text_training import FitOptions

from captioner.errors import CaptionerError
from captioner.text.tokenization import Tokenization
from captioner.utils.runtime import keep_freed_memory

Options = TypeVar("Options", bound=TextConfig | FitOptions)

TOKENS = Tokenization("13a", lowercase=True)
"""What is classified, or asked: sacreBLEU's standard tokens in lower case, punctuation included."""


def add_training_options(parser: argparse.ArgumentParser, config: TextConfig, options: FitOptions) -> None:
    """Add an option for each field of the two configurations, whose values are the defaults."""
    for defaults in (config, options):
        for each in fields(defaults):
            value = getattr(defaults, each.name)
            known = CHOICES.get(each.name)
            flag, help_ = f"--{each.name.replace('_', '-')}", f"default: {value}"
            if isinstance(value, bool):
                parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=value)
            else:
                parser.add_argument(flag, type=type(value), choices=known, default=value, help=help_)


def chosen(kind: type[Options], args: argparse.Namespace) -> Options:
    """Build a configuration from the options of the command line."""
    values: dict[str, Any] = {each.name: getattr(args, each.name) for each in fields(kind)}
    return kind(**values)


def add_command(
    commands: Any,  # noqa: ANN401 (argparse has no public name for it)
    name: str,
    function: Callable[[argparse.Namespace], None],
    help_: str,
) -> argparse.ArgumentParser:
    """Add a command, whose first argument is the run's folder."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help_, description=help_)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.set_defaults(function=function)
    return parser


def read_sentence(sentence: str) -> list[str]:
    """The tokens of a sentence.

    Raises:
        CaptionerError: It has none.
    """
    [tokens] = TOKENS([sentence])
    if not tokens:
        raise CaptionerError("the sentence has no words; give some")
    return tokens


def run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Run a command; return 0, or 2 for wrong use."""
    keep_freed_memory()
    args = parser.parse_args(argv)
    try:
        args.function(args)
    except CaptionerError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0
