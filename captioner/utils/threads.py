"""Parallel decoding of photographs in threads: Pillow releases Python's lock while it decodes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """Apply a function to all items in several threads.

    An error, or Ctrl-C, cancels the items that have not been started. The threads are not daemons: Python ends a daemon
    by unwinding its stack, which aborts the process if the thread is in C++, for example while it frees tensors.

    Args:
        function: Called once for each item; its exceptions are raised here.
        items: The arguments.
        threads: Maximum number of threads.

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


def told_threads() -> int:
    """The threads that ``OMP_NUM_THREADS`` tells this process to compute with, as torch does; 0 where it is unset.

    Ray sets it to the CPUs that it gave to an actor.
    """
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() else 0


def _work(function: Callable[[Item], Result], tasks: SimpleQueue[tuple[Future[Result], Item] | None]) -> None:
    while task := tasks.get():
        future, item = task
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function(item))
            except BaseException as error:  # raised in the thread that waits for the result
                future.set_exception(error)
