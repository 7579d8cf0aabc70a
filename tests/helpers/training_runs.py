"""Training runs, through the real command line."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from captioner.cli import main


def small_config(captions: Path, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Configuration of a captioner that trains in seconds, with changes to any of its options."""
    cnn = {"name": "timm/tf_efficientnet_lite0", "last_stage": "blocks.2"}  # weights of 0.2 MB
    config = {
        "trainer": {"max_epochs": 2},
        "model": {
            "encoder": {**cnn, "weights": "none", "image_size": 32},
            "decoder": {"embedding_size": 16, "hidden_size": 16, "attention_size": 16},
        },
        "data": {"captions": [str(captions)], "min_count": 1, "batch_size": 4, "workers": 0},
    }
    return _merged(config, changes or {})


def _merged(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**config, **changes}
    for name in config.keys() & changes.keys():
        if isinstance(config[name], Mapping):
            merged[name] = _merged(config[name], changes[name])
    return merged


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
