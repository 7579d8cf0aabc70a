"""Work of several threads: order, errors, ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from processes import LONGEST, run, started

from captioner.utils.runtime import SPINS
from captioner.utils.threads import map_in_threads

# A reader that never ends stands for a photograph that takes long.
ENDS_WHILE_READING = """
import sys, threading
from captioner.__main__ import run
from captioner.pipeline import load

model, photo = load(sys.argv[1]), sys.argv[2]

def read():
    while True:
        model._load(photo)

threading.Thread(target=read).start()
sys.argv[1:] = ["caption", *[photo] * 1000, "--model", sys.argv[1], "--batch-size", "1"]
run()
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
            assert not thread.daemon
            thread.join(10)
            assert not thread.is_alive()
    assert len(begun) <= 2


def test_nothing_is_nothing() -> None:
    assert map_in_threads(str, [], threads=2) == []


def test_ctrl_c_waits_for_no_photograph(checkpoint: Path, photos: Path) -> None:
    command = [sys.executable, "-c", ENDS_WHILE_READING, str(checkpoint), str(photos / "0.png")]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(LONGEST) == 130
        assert process.stderr.read() == b"captioner: interrupted\n"


@pytest.mark.parametrize(
    ("chosen", "policy", "spins"),
    [
        ({}, "PASSIVE", str(SPINS)),
        ({"GOMP_SPINCOUNT": "7"}, "PASSIVE", "7"),
        ({"OMP_WAIT_POLICY": "active"}, "ACTIVE", "30000000000"),
    ],
)
def test_waiting_threads_sleep_soon_unless_the_user_has_chosen(chosen: dict[str, str], policy: str, spins: str) -> None:
    unset = {name: value for name, value in os.environ.items() if name not in {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}}
    done = run(
        [sys.executable, "-m", "captioner", "info"],
        env=unset | chosen | {"OMP_DISPLAY_ENV": "verbose"},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("this torch does not compute with GNU's OpenMP")
    assert f"OMP_WAIT_POLICY = '{policy}'" in done.stderr
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr
