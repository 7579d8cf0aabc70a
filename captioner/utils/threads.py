"""Photographs decoded by several threads: Pillow lets go of Python's lock while it decodes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """A function's results for all items, worked out by several threads.

    An error, or Ctrl-C, drops what was not begun. The threads are no daemons: Python ends a daemon by unwinding its
    stack, and the process aborts where that is in C++, as when garbage with tensors in it is collected there.

    Args:
        function: Called once for each item. What it raises is raised here.
        items: What it is called with.
        threads: How many at most.

    Returns:
        The results, in the order of the items.
    """
    tasks: SimpleQueue[tuple[Future[Result], Item] | None] = SimpleQueue()
    futures: list[Future[Result]] = [Future() for _ in items]
    for task in zip(futures, items, strict=True):
        tasks.put(task)
    for _ in range(min(threads, len(items))):
        tasks.put(None)
        threading.Thread(target=_work, args=(function, tasks)).start()
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()


def _work(function: Callable[[Item], Result], tasks: SimpleQueue[tuple[Future[Result], Item] | None]) -> None:
    while task := tasks.get():
        future, item = task
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function(item))
            except BaseException as error:  # whoever waits for the result is to have it
                future.set_exception(error)
