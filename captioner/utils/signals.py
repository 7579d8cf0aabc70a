"""Handlers of Ctrl-C."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

EXIT_INTERRUPTED = 130
"""128 and the signal's number, as shells have it."""


def end_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """End the process without a traceback: a handler of SIGINT for when there is nothing to save."""
    os.write(2, b"captioner: interrupted\n")
    os._exit(EXIT_INTERRUPTED)


@contextmanager
def answered_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Install a handler of SIGINT for the duration of a block; no effect outside the main thread.

    Args:
        handler: Called with the signal's number and the current stack frame.
    """
    try:
        before = signal.signal(signal.SIGINT, handler)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
