"""Handling of Ctrl-C at any time, also during the import of torch."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from captioner.utils.signals import answered_by, end_at_once


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGINT end the process at once while a module is being imported, and raise KeyboardInterrupt otherwise.

    Packages convert an exception during their import to other errors, or abort; at that time there is nothing to save.

    Raises:
        KeyboardInterrupt: After SIGINT, also if another exception was raised because of it.
    """
    # Ignored by the shell, or a host program's.
    if signal.getsignal(signal.SIGINT) not in (signal.default_int_handler, end_at_once):
        yield
        return
    heard = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        heard = True
        outer = frame
        while outer is not None:
            if outer.f_code.co_filename.startswith("<frozen importlib"):
                end_at_once(number, frame)
            outer = outer.f_back
        signal.default_int_handler(number, frame)

    with answered_by(interrupt):
        try:
            yield
        except Exception as error:
            if heard:
                raise KeyboardInterrupt from error
            raise
