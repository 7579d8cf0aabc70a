"""What the benchmarks share: arguments, targets, random captions, a training step, and timing ways in turn."""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

_SYLLABLES = ["".join(letters) for letters in itertools.product("bcdfghjklmnpqrstvwxz", "aeiou")]
_WORDS = ["".join(parts) for parts in itertools.product(_SYLLABLES, _SYLLABLES, ("", "r"))]
_WEIGHTS = list(itertools.accumulate(1 / (number + 10) for number in range(len(_WORDS))))


def random_caption(chance: random.Random) -> str:
    """Ten of 20,000 words, as unevenly used as people's."""
    return " ".join(chance.choices(_WORDS, cum_weights=_WEIGHTS, k=10))


def compare_to_limits(found: Mapping[str, str | float], limits: Mapping[str, float]) -> list[dict[str, str | float]]:
    """Rows that tell whether what was found, by name, is at most what each limit allows."""
    return [
        {"target": name, "at most": most, "found": found[name], "met": "yes" if float(found[name]) <= most else "NO"}
        for name, most in limits.items()
    ]


def add_counts(parser: argparse.ArgumentParser, *options: tuple[str, int, str]) -> None:
    """Adds options that take a whole number: of each the flag, the default and the help."""
    for flag, default, text in options:
        parser.add_argument(flag, type=int, default=default, metavar="N", help=f"{text} (default: {default})")


def training_step(network: nn.Module, loss: Callable[[], Tensor], dtype: torch.dtype) -> Callable[[], None]:
    """A way to be timed: the loss and its gradients, computed in a type by autocast if it is not float32."""

    def way() -> None:
        network.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            value = loss()
        value.backward()  # type: ignore[no-untyped-call]

    return way


def fastest(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of each way's fastest run, the one that other work on the machine disturbed least.

    Args:
        ways: What to time, in turn, so that a slow spell of the machine meets all of them; each runs once untimed.
        repeats: Timed runs of each.
    """
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begin)
    return {name: min(each) for name, each in seconds.items()}
