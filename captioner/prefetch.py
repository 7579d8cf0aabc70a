"""Work that threads do ahead of who needs it, in order: photographs are read while others go through the network."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int
) -> Generator[Result, None, None]:
    """``map`` by threads that work a bounded number of items ahead.

    The items themselves are asked for by the caller's own thread. Ending the iteration early drops what was not begun
    and waits for nothing: the threads are daemons, so a picture that takes long does not hold up the program's end.

    Args:
        function: Called once for each item, by any of the threads.
        items: Taken one by one, ``ahead`` more than there are results taken.
        threads: How many.
        ahead: Results that are made or in the making beyond those taken.

    Yields:
        What the function returns, in the order of the items; what it raises is raised in place of its result.
    """
    tasks: SimpleQueue[tuple[Future[Result], Item] | None] = SimpleQueue()
    waiting: deque[Future[Result]] = deque()
    for _ in range(threads):
        threading.Thread(target=_work, args=(function, tasks), daemon=True).start()
    try:
        for item in items:
            waiting.append(Future())
            tasks.put((waiting[-1], item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        for _ in range(threads):
            tasks.put(None)


def _work(function: Callable[[Item], Result], tasks: SimpleQueue[tuple[Future[Result], Item] | None]) -> None:
    while task := tasks.get():
        future, item = task
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function(item))
            except BaseException as error:  # whoever waits for the result is to have it
                future.set_exception(error)
