"""Training on a terminal, where progress is drawn."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import training_runs
from training_runs import small_config

from captioner.training.checkpointing import LAST

PICTURES = 40
LONGEST = 120
"""Seconds that a run may take on a busy machine; it takes some 10."""


@pytest.fixture
def arguments(shapes: Path, tmp_path: Path) -> list[str]:
    changes = {
        "trainer": {"default_root_dir": str(tmp_path / "run")},
        "data": {"workers": 1},
        "early_stopping": {"patience": 999},
    }
    return ["train", *training_runs.arguments(small_config(shapes / "captions.jsonl", changes), tmp_path)]


def on_terminal(arguments: list[str], wants_ctrl_c: Callable[[], bool] = lambda: False) -> tuple[int, str]:
    """The exit code of a command and what its terminal was sent; Ctrl-C is typed once, when it is wanted."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ |= {"TERM": "xterm", "OMP_NUM_THREADS": "1"}
        os.execv(sys.executable, [sys.executable, "-m", "captioner", *arguments])
    os.set_blocking(terminal, False)
    seen, typed, end = b"", False, time.monotonic() + LONGEST
    while (ended := os.waitpid(process, os.WNOHANG))[0] == 0:
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            pytest.fail(f"it did not end: {seen!r}")
        if not typed and wants_ctrl_c():
            typed = os.write(terminal, b"\x03") > 0
        with contextlib.suppress(OSError):  # nothing new, or the end
            seen += os.read(terminal, 1 << 16)
        time.sleep(0.01)
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 1 << 16):
            seen += part
    os.close(terminal)
    return os.waitstatus_to_exitcode(ended[1]), seen.decode()


def test_a_run_draws_its_progress_and_ends_with_the_name_of_its_file(arguments: list[str], tmp_path: Path) -> None:
    code, seen = on_terminal(arguments)
    assert (code, "Traceback" in seen) == (0, False), seen
    assert "Epoch 1/1" in seen
    assert "epoch 2: BLEU-4" in seen
    assert "v_num" not in seen  # there is one log, not a numbered one
    assert seen.split()[-1].endswith("captioner.safetensors")
    assert (tmp_path / "run" / "captioner.safetensors").exists()


def test_ctrl_c_saves_a_run_and_ends_it(arguments: list[str], tmp_path: Path) -> None:
    last = tmp_path / "run" / LAST
    code, seen = on_terminal([*arguments, "--trainer.max_epochs", "999"], last.exists)
    assert (code, "Traceback" in seen) == (130, False), seen
    assert f"captioner:rerunwith--resume{last}tocontinue" in "".join(seen.split())  # a line may be broken anywhere
    assert seen.endswith("captioner: interrupted\r\n")
