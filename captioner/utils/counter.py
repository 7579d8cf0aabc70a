"""How far a long job is: a bar on a terminal, elsewhere a line now and then, both on standard error."""

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
"""Until the first line, and between lines: people want to know soon how long it will take, and a log stays short."""


class Pulse:
    """Says when it is time for a line."""

    def __init__(self) -> None:
        self._next = time.monotonic() + FIRST_SECONDS

    def is_due(self) -> bool:
        """Whether it is time; if so, the next line waits for its own."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + SECONDS
        return True


def in_words(seconds: float) -> str:
    """A duration as people say it, such as ``12 minutes``."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far a job is.

    Args:
        what: The job, such as ``Captioning``.
        total: How many things it has.

    Yields:
        What is called with the number of things that are done.
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
    """Pass items on, and show how many have come.

    Args:
        items: Anything, ``total`` of them.
        what: The job, such as ``Captioning``.
        total: How many.
    """
    with counting(what, total) as update:
        for done, item in enumerate(items, start=1):
            yield item
            update(done)
