"""Java processes of the official jars of METEOR and SPICE (extra `captioner[coco]`), none of which outlives a call.

The official Python wrapper (pycocoevalcap) is never imported: it downloads files and prints.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from captioner.errors import CaptionerError

_STEADY = (
    # In locales with a decimal comma, METEOR cannot read its own parameters.
    "-Duser.language=en",
    "-Duser.country=US",
    "-Dfile.encoding=UTF-8",
    "-Dstdout.encoding=UTF-8",
    "-Djava.awt.headless=true",
)


def find_java() -> str:
    """Find the java executable.

    Raises:
        CaptionerError: There is none.
    """
    java = shutil.which("java")
    if java is None:
        raise CaptionerError(
            "java is not on the PATH, and METEOR and SPICE need it; install OpenJDK 8 (for METEOR alone, 17 will do)"
        )
    return java


def find_jar(name: str) -> Path:
    """Find a jar of pycocoevalcap, without importing that.

    Args:
        name: Its path within that package.

    Raises:
        CaptionerError: The package is not installed, or lacks the jar.
    """
    package = importlib.util.find_spec("pycocoevalcap")
    if package is None:
        raise CaptionerError(
            "pycocoevalcap, which holds the jars of METEOR and SPICE, is not installed; "
            'install it with: pip install "captioner[coco]"'
        )
    candidates = [Path(candidate) / name for candidate in package.submodule_search_locations or ()]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.absolute()
    raise CaptionerError(
        f"{candidates[0] if candidates else name} is missing; "
        "fix it with: pip install --force-reinstall --no-deps pycocoevalcap"
    )


class JavaProcess:
    """A running jar; a context manager that always kills it and its child processes.

    Args:
        metric: Name of the metric, for messages.
        options: Command line arguments of java.
        seconds: Time limit.
        folder: Working directory, in which it may leave files; the caller removes it.

    Raises:
        CaptionerError: Java cannot be started.
    """

    def __init__(self, metric: str, options: Sequence[str], seconds: float, folder: Path) -> None:
        self._metric, self._seconds = metric, seconds
        self._log = folder / "errors.txt"
        self._late = threading.Event()
        self._writers: list[threading.Thread] = []
        command = [find_java(), *_STEADY, f"-Djava.io.tmpdir={folder}", *options]
        with self._log.open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,  # a file: unlike a pipe, it never blocks the jar
                    cwd=folder,
                    encoding="utf-8",
                    errors="replace",
                    start_new_session=True,  # its own process group, which can be killed as a whole
                )
            except OSError as error:
                raise CaptionerError(
                    f"{command[0]} cannot be started ({error.strerror}); put a working java on the PATH"
                ) from error
        self._timer = threading.Timer(seconds, self._stop_late)
        self._timer.daemon = True

    def __enter__(self) -> JavaProcess:
        try:
            self._timer.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def ask(self, lines: Iterable[str], answers: int) -> Iterator[str]:
        """Write lines and yield the answers as they arrive.

        Writing and reading are concurrent: a jar that blocks until its answers are read would otherwise wait forever.

        Raises:
            CaptionerError: The jar ends, or its time is up, before it has answered.
        """
        writer = threading.Thread(target=self._write, args=("".join(f"{line}\n" for line in lines),), daemon=True)
        self._writers.append(writer)
        writer.start()
        assert self._process.stdout is not None
        for _ in range(answers):
            line = self._process.stdout.readline()
            if not line:
                raise self.failure("ended before it had answered")
            yield line.strip()

    def finish(self) -> None:
        """Wait for the end of a jar that has no input.

        Raises:
            CaptionerError: It fails, or its time is up.
        """
        self._process.communicate()
        if self._process.returncode:
            raise self.failure(f"failed with exit status {self._process.returncode}")

    def errors(self) -> str:
        """The standard error output so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def failure(self, what: str) -> CaptionerError:
        """Build an error from what happened and the last message of the jar."""
        if self._late.is_set():
            return CaptionerError(
                f"{self._metric} took longer than its limit of {self._seconds:g} s and was stopped; raise time_limit"
            )
        # A Java stack trace is indented and below its message.
        complaints = [line for line in self.errors().splitlines() if line.strip() and not line[0].isspace()]
        last = complaints[-1].strip() if complaints else "none"
        return CaptionerError(
            f"{self._metric}'s jar {what}; its last error line: {last}; check that `java -version` works"
        )

    def _write(self, text: str) -> None:
        assert self._process.stdin is not None
        # The reader notices that the jar has ended.
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(text)
            self._process.stdin.flush()

    def _stop_late(self) -> None:
        self._late.set()
        self._kill()

    def _kill(self) -> None:
        # Until it has been waited for, even a dead process keeps its id from being reused.
        if self._process.returncode is not None:
            return
        if sys.platform == "win32":
            self._process.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _end(self) -> None:
        self._timer.cancel()
        self._kill()
        self._process.wait()
        for writer in self._writers:
            writer.join()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
