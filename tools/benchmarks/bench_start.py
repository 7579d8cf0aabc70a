"""From a cold process to the first caption, against importing torch alone; and what the process keeps in memory."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from timing import compare_to_limits

SUMMARY = "seconds to the first caption, and memory"

PHOTO = Path(__file__).parents[2] / "data" / "samples" / "astronaut.jpg"
TORCH, ONNX = "import torch", "captioner caption --backend onnx"
SECONDS, OF_TORCH, MEGABYTES = 0.6, 0.35, 200.0
"""What a first caption without torch may take: seconds, a part of the time that torch's import takes, and memory."""

COMMANDS = {
    TORCH: ["-c", "import torch"],
    "import torch, torchvision": ["-c", "import torch, torchvision"],
    "captioner caption": ["-m", "captioner", "caption", str(PHOTO)],
    ONNX: ["-m", "captioner", "caption", "--backend", "onnx", str(PHOTO)],
    "captioner --help": ["-m", "captioner", "--help"],
}


# A process is told to have had in memory what its parent has, so that the parent has to be small: without torch.
_MEASURED = """
import json, os, subprocess, sys, time
begin = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
seconds = time.perf_counter() - begin
print(json.dumps([seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6]))
sys.exit(os.waitstatus_to_exitcode(status))
"""


class Spent(NamedTuple):
    """What a process took.

    Attributes:
        seconds: From its start to its end.
        cpu_seconds: Of processors, which other work on the machine disturbs less.
        megabytes: At most resident.
    """

    seconds: float
    cpu_seconds: float
    megabytes: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The section's arguments."""
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="runs of each, in turn; the least counts")
    parser.add_argument(
        "--python",
        default=sys.executable,
        metavar="FILE",
        help=f"runs {ONNX}, such as that of an environment without torch",
    )


def measure(args: argparse.Namespace) -> list[dict[str, str | float]]:
    """Runs whole processes in turn, each once uncounted; of all runs of a command the least counts, in each column."""
    spent = defaultdict(list)
    for _ in range(args.repeats + 1):
        for name, command in COMMANDS.items():
            spent[name].append(_run(args.python if name == ONNX else sys.executable, command))
    least = {name: Spent(*map(min, zip(*runs[1:], strict=True))) for name, runs in spent.items()}
    return [
        {
            "process": name,
            "seconds": each.seconds,
            "CPU seconds": each.cpu_seconds,
            "MB": each.megabytes,
            "times torch": each.seconds / least[TORCH].seconds,
        }
        for name, each in least.items()
    ]


def targets(rows: Sequence[Mapping[str, str | float]]) -> list[dict[str, str | float]]:
    """What was to be reached without torch, and what was."""
    [row] = [row for row in rows if row["process"] == ONNX]
    return compare_to_limits(row, {"seconds": SECONDS, "times torch": OF_TORCH, "MB": MEGABYTES})


def _run(python: str, command: Sequence[str]) -> Spent:
    # Away from the source, so that another Python runs what is installed there.
    measured = [sys.executable, "-c", _MEASURED, python, *command]
    done = subprocess.run(measured, capture_output=True, text=True, check=True, cwd=PHOTO.parent)
    return Spent(*json.loads(done.stdout))
