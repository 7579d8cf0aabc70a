"""Commands that tests start: each ends with its test, and none is waited for without a limit."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CAPTIONER = [sys.executable, "-m", "captioner"]
LONGEST = 180.0
"""Seconds that a command may take on a busy machine; most take some 5."""


@contextmanager
def started(command: Sequence[str | Path], longest: float = LONGEST, **how: Any) -> Iterator[subprocess.Popen[Any]]:
    """A command that runs beside the test, in a session of its own.

    All of the session is killed when the block is left, and after ``longest`` seconds, so that reading from it ends.
    """
    process = subprocess.Popen(list(map(str, command)), start_new_session=True, **how)
    limit = threading.Timer(longest, _kill, [process])
    limit.daemon = True
    limit.start()
    try:
        yield process
    finally:
        limit.cancel()
        _kill(process)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.wait(LONGEST)


def run(
    command: Sequence[str | Path],
    longest: float = LONGEST,
    input: Any = None,
    capture_output: bool = False,
    check: bool = False,
    **how: Any,
) -> subprocess.CompletedProcess[Any]:
    """Runs a command to its end, as `subprocess.run`, and kills it and what it has started after its time."""
    if input is not None:
        how["stdin"] = subprocess.PIPE
    if capture_output:
        how |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(command, longest, **how) as process:
        out, err = process.communicate(input)
    done = subprocess.CompletedProcess(command, process.returncode, out, err)
    if check:
        assert done.returncode == 0, err
    return done


def commands_of_pages(folder: Path) -> dict[str, str]:
    """An environment in which the commands of pages are this test's Python and captioner; pip installs nothing.

    Args:
        folder: Where they are written to.
    """
    folder.mkdir()
    for name, line in (
        ("python", f"exec '{sys.executable}' \"$@\""),
        ("captioner", f"exec '{sys.executable}' -m captioner \"$@\""),
        ("pip", "true"),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    root = Path(__file__).parents[2]
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(root)}


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    """Waits for something that a command is to do; fails where it ends before, as it does past its limit."""
    while not condition():
        assert process.poll() is None, process.returncode
        time.sleep(0.01)


def cpu_seconds(process: subprocess.Popen[Any]) -> float:
    """What a command has used of processors up to now; Linux alone tells it."""
    # After the name, which may hold blanks: fields 14 and 15 of the whole line.
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_seconds_at_end(process: subprocess.Popen[Any]) -> float:
    """Waits for a command's end, and tells what it has used of processors."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process.wait(LONGEST)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _kill(process: subprocess.Popen[Any]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
