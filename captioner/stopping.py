"""Ctrl-C and SIGTERM while a model is trained: what was learned is saved first."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

from lightning.pytorch.utilities import rank_zero_only

from captioner.signals import answered_by

_TOLD = b"captioner: saves what was learned, then ends; Ctrl-C again ends at once\n"


class StopRequest:
    """Whether a run was asked to end.

    Attributes:
        can_wait: There is something to save, and somebody who will look at ``made``.
        made: It was asked for.
    """

    def __init__(self) -> None:
        self.can_wait = False
        self.made = False
        self._process = os.getpid()

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Takes the first SIGINT for a request where it can wait; any other does what it would have done."""
        before = signal.getsignal(signal.SIGINT)
        if not callable(before):  # ignored by the shell
            yield
            return
        with answered_by(partial(self._hear, before)):
            yield

    def hear_sigterm(self) -> None:
        """Takes SIGTERM for a request too, until Lightning, which answers it while it trains, gives it back.

        Lightning would end the run at once where an epoch is validated, and with it lose the epoch.
        """
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, partial(self._hear, signal.default_int_handler))

    def _hear(self, otherwise: Callable[[int, FrameType | None], object], number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # loads images; the process that trains ends it
            return
        if self.can_wait and not self.made:
            self.made = True
            rank_zero_only(os.write)(2, _TOLD)
        else:
            otherwise(number, frame)
