"""Arguments of training that are read before its parser is built."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import yaml

from captioner.errors import CaptionerError, first_line
from captioner.training.allowed_imports import OPTION
from captioner.training.checkpointing import LAST, newest_whole
from captioner.utils.file_kinds import LOOKED_AT, identify

CONFIG = "config.yaml"
"""File name of a run's configuration."""


def _parse_some(parser: argparse.ArgumentParser, args: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
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
    known, rest = _parse_some(parser, args)
    return [name.strip() for names in known.packages for name in names.split(",")], rest


def refuse_wrong_configurations(args: Sequence[str]) -> None:
    """Refuse configuration files that are no YAML objects, by name; jsonargparse's messages have none.

    Args:
        args: The command line.

    Raises:
        CaptionerError: There is one.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-c", "--config", action="append", default=[])
    known, _ = _parse_some(parser, args)
    for path in map(Path, known.config):
        if path.is_file():
            _refuse_wrong_configuration(path)


def _refuse_wrong_configuration(path: Path) -> None:
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
    known, _ = _parse_some(parser, args)
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
