"""Timing ways of doing the same thing in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


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
