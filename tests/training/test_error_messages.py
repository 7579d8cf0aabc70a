"""Errors of a run that other processes cause."""

from __future__ import annotations

import sys

from processes import run

LOADER_THAT_WAITS = """
import multiprocessing
import signal
import time

from captioner.errors import CaptionerError
from captioner.training.error_messages import errors_in_one_line

ready = multiprocessing.Event()

def wait():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready.set()
    time.sleep(600)

multiprocessing.get_context("fork").Process(target=wait, daemon=True).start()
ready.wait()
try:
    with errors_in_one_line():
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
except CaptionerError as error:
    print(error)
"""


def test_loaders_that_wait_for_a_killed_one_do_not_hold_up_the_end() -> None:
    done = run([sys.executable, "-c", LOADER_THAT_WAITS], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("a process that loads images is killed by signal: Killed; if memory is short")
