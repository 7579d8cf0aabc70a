"""Ctrl-C while a model is trained: what was learned is saved first."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
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

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Takes the first SIGINT for a request where it can wait; any other does what it would have done."""
        before = signal.getsignal(signal.SIGINT)
        process = os.getpid()

        def hear(number: int, frame: FrameType | None) -> None:
            if os.getpid() != process:  # loads images; the process that trains ends it
                return
            if self.can_wait and not self.made:
                self.made = True
                rank_zero_only(os.write)(2, _TOLD)
            elif callable(before):
                before(number, frame)

        if not callable(before):  # ignored by the shell
            yield
            return
        with answered_by(hear):
            yield
