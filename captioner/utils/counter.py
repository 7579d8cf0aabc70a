"""Progress of long jobs on standard error: a bar on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from captioner.utils.console import print_status

T = TypeVar("T")

FIRST_SECONDS = 10.0
SECONDS = 60.0
"""Seconds before the first line, and between lines: an estimate comes early, and logs stay short."""


class Pulse:
    """Limits the rate of progress lines."""

    def __init__(self) -> None:
        self._next = time.monotonic() + FIRST_SECONDS

    def is_due(self) -> bool:
        """Whether a line is due; if so, schedules the next one."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + SECONDS
        return True


def in_words(seconds: float) -> str:
    """Format a duration, such as ``12 minutes``."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show the progress of a job.

    Args:
        what: The job, such as ``Captioning``.
        total: Number of its items.

    Yields:
        A function to call with the number of finished items.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        # Standard output is for results.
        with Progress(console=Console(stderr=True), redirect_stdout=False) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)
        return
    pulse, begun = Pulse(), time.monotonic()

    def update(done: int) -> None:
        if done and pulse.is_due():
            left = (time.monotonic() - begun) / done * (total - done)
            print_status(f"captioner: {what}: {done} of {total}, {in_words(left)} left")

    yield update


def counted(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield items, and show the progress.

    Args:
        items: The items.
        what: The job, such as ``Captioning``.
        total: Number of items.
    """
    with counting(what, total) as update:
        for done, item in enumerate(items, start=1):
            yield item
            update(done)
