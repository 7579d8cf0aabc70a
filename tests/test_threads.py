"""Work of several threads: order, errors, ends."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from captioner.threads import map_in_threads

# Whether a daemon is inside a call of torch as the process ends is chance; ten processes with eight threads each
# make it all but sure. They are forks of one that has imported everything.
ENDS_WHILE_READING = """
import os, sys, threading, time
from captioner.pipeline import load

model, photo = load(sys.argv[1]), sys.argv[2]

def read():
    while True:
        model._load(photo)

for _ in range(10):
    if (child := os.fork()) == 0:
        for _ in range(8):
            threading.Thread(target=read, daemon=True).start()
        time.sleep(0.1)
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_results_come_in_order_whoever_is_done_first() -> None:
    second_is_done = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert second_is_done.wait(10)
        if number == 1:
            second_is_done.set()
        return number * number

    assert map_in_threads(work, range(20), threads=2) == [number * number for number in range(20)]


def test_the_first_error_is_raised_and_nothing_more_is_begun() -> None:
    begun: list[int] = []
    may_go_on = threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        if number == 0:
            raise KeyError(number)
        may_go_on.wait(10)

    with pytest.raises(KeyError):
        map_in_threads(work, range(100), threads=1)
    may_go_on.set()
    for thread in threading.enumerate():
        if thread.name.endswith("(_work)"):
            assert thread.daemon
            thread.join(10)
            assert not thread.is_alive()
    assert len(begun) <= 2


def test_nothing_is_nothing() -> None:
    assert map_in_threads(str, [], threads=2) == []


def test_the_process_may_end_while_photographs_are_read(checkpoint: Path, photos: Path) -> None:
    command = [sys.executable, "-c", ENDS_WHILE_READING, str(checkpoint), str(photos / "0.png")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stderr == ""
    assert result.stdout == "0\n" * 10
