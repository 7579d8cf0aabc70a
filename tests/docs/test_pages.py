"""Every command that a page or a configuration shows is one that the program takes."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from captioner.cli import VERBS, main
from captioner.models.decoder import DecoderConfig
from captioner.training.datamodule import CaptionData
from captioner.training.run import parse

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FILES = [*PAGES, *sorted((ROOT / "configs").rglob("*.yaml"))]


def commands(text: str) -> list[list[str]]:
    """The words of each command after ``captioner``; it may go on after a backslash and stand in a comment of YAML."""
    lines = re.sub(r"^#", " ", text, flags=re.MULTILINE)
    found = re.findall(r"^ *(captioner (?:.*\\\n)*.*)$", lines, re.MULTILINE)
    words = [shlex.split(command.replace("\\\n", " "), comments=True)[1:] for command in found]
    return [each[: each.index(">")] if ">" in each else each for each in words]  # what the shell redirects


SHOWN = [(f"{file.name}: {' '.join(command)}", command) for file in FILES for command in commands(file.read_text())]
# The guide also begins from what its other runs have left, which its own test does too.
TRAINED = {name: words[1:] for name, words in SHOWN if words[0] == "train" and "configs/" in words[2]}
OTHERS = {name: words for name, words in SHOWN if words[0] != "train"}


@cache
def config_of(*arguments: str) -> Any:
    return parse(arguments).config


@pytest.mark.usefixtures("without_instantiation")
@pytest.mark.parametrize("arguments", TRAINED.values(), ids=TRAINED)
def test_a_training_that_is_shown_is_none_that_contradicts_itself(arguments: list[str]) -> None:
    config = config_of(*arguments)
    DecoderConfig(**config["model"]["decoder"].as_dict())
    if config["task"] == "captioning":
        data = CaptionData(**config["data"].as_dict())
        assert data.feature_cache is None or config["model"]["encoder"]["unfreeze_from"] is None


@pytest.mark.parametrize("arguments", OTHERS.values(), ids=OTHERS)
def test_another_command_that_is_shown_is_taken(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for verb in VERBS:
        monkeypatch.setattr(f"captioner.cli.{verb}.run", lambda args: 0)
    assert main(arguments) == 0


@pytest.mark.usefixtures("without_instantiation")
def test_no_two_runs_that_are_shown_want_one_folder() -> None:
    folders = defaultdict(set)
    for arguments in TRAINED.values():
        folders[config_of(*arguments)["trainer"]["default_root_dir"]].add(tuple(arguments))
    assert len(folders) > 10
    assert {folder: runs for folder, runs in folders.items() if len(runs) > 1} == {}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_tool_that_is_shown_is_there(file: Path) -> None:
    tools = re.findall(r"python\s+(tools/[\w/]+\.py)", file.read_text())
    assert [tool for tool in tools if not (ROOT / tool).exists()] == []
