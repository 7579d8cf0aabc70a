"""Ctrl-C at any moment, also while torch is still being imported."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from captioner.utils.signals import answered_by

EXIT_INTERRUPTED = 130
"""128 and the signal's number, as shells have it."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Lets SIGINT end the process at once while a module is being imported, and raise KeyboardInterrupt otherwise.

    Packages turn an exception in the midst of their import into errors of their own, or abort; and while they are
    imported there is nothing yet that could be saved.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored by the shell, or a host program's
        yield
        return
    with answered_by(_interrupt):
        yield


def _interrupt(number: int, frame: FrameType | None) -> None:
    innermost = frame
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"captioner: interrupted\n")
            os._exit(EXIT_INTERRUPTED)
        frame = frame.f_back
    signal.default_int_handler(number, innermost)
