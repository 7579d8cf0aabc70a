"""Training runs, through the real command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from captioner.cli import main


def arguments(config: dict[str, Any], folder: Path, *overrides: str) -> list[str]:
    """What trains by a configuration, which is written into a folder."""
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    return ["--config", str(file), *overrides]


def run(config: dict[str, Any], folder: Path, *overrides: str) -> int:
    """Trains by a configuration, which is written into a folder, and gives the exit code."""
    return main(["train", *arguments(config, folder, *overrides)])


def kill_at_random(
    kills: int, shortest: float, longest: float, modules: str, arguments: Sequence[str], last: Path | str = "-"
) -> list[str]:
    """The command line that has a command of captioner killed at random moments; see kill_at_random.py."""
    script = Path(__file__).with_name("kill_at_random.py")
    return [sys.executable, str(script), str(kills), str(shortest), str(longest), modules, str(last), *arguments]


def load_ckpt(path: Path) -> dict[str, Any]:
    """What Lightning wrote."""
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content
