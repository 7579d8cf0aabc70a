"""From a cold process to the first caption, against importing torch and torchvision alone."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from timing import fastest

SUMMARY = "seconds to the first caption"

PHOTO = Path(__file__).parents[2] / "data" / "samples" / "astronaut.jpg"

COMMANDS = {
    "limit: import torch": ["-c", "import torch"],
    "import torch, torchvision": ["-c", "import torch, torchvision"],
    "captioner caption": ["-m", "captioner", "caption", str(PHOTO)],
    "captioner caption --backend onnx": ["-m", "captioner", "caption", "--backend", "onnx", str(PHOTO)],
    "captioner --help": ["-m", "captioner", "--help"],
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The section's arguments."""
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="runs of each, in turn; the fastest counts")


def measure(args: argparse.Namespace) -> list[dict[str, str | float]]:
    """Times whole processes in turn."""

    def run(command: list[str]) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *command], capture_output=True, check=True)

    seconds = fastest({name: run(command) for name, command in COMMANDS.items()}, args.repeats)
    return [
        {"process": name, "seconds": each, "times torch and torchvision": each / seconds["import torch, torchvision"]}
        for name, each in seconds.items()
    ]
