"""Arguments of training that are read before its parser is built."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from captioner.errors import CaptionerError, first_line
from captioner.training.allowed_imports import OPTION
from captioner.training.checkpointing import LAST, newest_whole
from captioner.utils.file_kinds import LOOKED_AT, identify

CONFIG = "config.yaml"
"""File name of a run's configuration."""


def parse_some(parser: argparse.ArgumentParser, args: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Parse what a parser knows of a command line.

    Args:
        parser: One that raises its errors.
        args: The command line.

    Returns:
        What the parser knows, and the remaining arguments.

    Raises:
        CaptionerError: An option has no value.
    """
    try:
        return parser.parse_known_args(args)
    except argparse.ArgumentError as error:
        raise CaptionerError(f"train: {error}; captioner train --help lists the options") from error


def take_allowed_packages(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Extract the trusted packages from the command line; configuration files cannot set them.

    Args:
        args: The command line.

    Returns:
        The packages, and the remaining arguments.

    Raises:
        CaptionerError: The option has no value.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(OPTION, OPTION.replace("_", "-"), dest="packages", action="append", default=[])
    known, rest = parse_some(parser, args)
    return [name.strip() for names in known.packages for name in names.split(",")], rest


class Configuration(NamedTuple):
    """A configuration file that a command line names.

    Attributes:
        file: The file, as it was given.
        fields: What it sets.
    """

    file: str
    fields: dict[Any, Any]


def read_configurations(args: Sequence[str]) -> list[Configuration]:
    """Read the configuration files of a command line, in its order; what is no file is left to the parser.

    Args:
        args: The command line.

    Raises:
        CaptionerError: A file is no YAML object. The message has its name, which those of jsonargparse have not.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-c", "--config", action="append", default=[])
    known, _ = parse_some(parser, args)
    return [Configuration(file, _fields(Path(file))) for file in known.config if Path(file).is_file()]


def _fields(path: Path) -> dict[Any, Any]:
    content = path.read_bytes()
    kind = identify(content[:LOOKED_AT], content[-LOOKED_AT:])
    if kind is not None:
        raise CaptionerError(f"train: {path} {kind.tell('give a configuration in YAML')}")
    try:
        found = yaml.safe_load(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise CaptionerError(
            f"train: {path} is not UTF-8 text (byte {error.start}); give a configuration in YAML"
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise CaptionerError(f"train: {path}{place} is not YAML: {error.problem}; fix it there") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CaptionerError(f"train: {path} is not YAML: {first_line(error)}; fix it there") from error
    if not isinstance(found, dict):
        raise CaptionerError(f"train: {path} has no fields; write some, such as data: and model:, as in configs/")
    return found


def with_configuration_of_its_run(args: Sequence[str]) -> list[str]:
    """Complete the arguments of ``--resume`` with the run's own configuration and folder.

    Args:
        args: The command line. ``--resume`` may name the file or its folder.

    Returns:
        The command line with configuration and folder added.

    Raises:
        CaptionerError: The checkpoint is missing, or has no configuration next to it.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--resume")
    parser.add_argument("-c", "--config", action="append")
    parser.add_argument("--trainer.default_root_dir", dest="root")
    known, _ = parse_some(parser, args)
    names_data = any(arg.startswith("--data") for arg in args)
    if not known.resume or known.resume == "null" or known.config or names_data:
        return list(args)
    given = Path(known.resume)
    newest_whole(given / LAST if given.is_dir() else given)
    folder = given if given.is_dir() else given.parent
    if not (folder / CONFIG).is_file():
        raise CaptionerError(
            f"--resume {given}: there is no {CONFIG} beside it that tells how it was trained; give the run's "
            "configuration with --config FILE"
        )
    root = [] if known.root else ["--trainer.default_root_dir", str(folder)]
    return ["--config", str(folder / CONFIG), *root, *args]
