"""Runs the official jars of METEOR and SPICE, of the extra `captioner[coco]`, so that no Java outlives a call.

The official Python around them (pycocoevalcap) is never imported: it downloads and prints by itself.
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
    # Where numbers have a decimal comma METEOR cannot read its own parameters.
    "-Duser.language=en",
    "-Duser.country=US",
    "-Dfile.encoding=UTF-8",
    "-Dstdout.encoding=UTF-8",
    "-Djava.awt.headless=true",
)


def find_java() -> str:
    """The java on the path.

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
    """A jar of pycocoevalcap, which is looked for but not imported.

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
        "mend it with: pip install --force-reinstall --no-deps pycocoevalcap"
    )


class JavaProcess:
    """A jar at work, within a `with` that kills it and all it started, however it is left.

    Args:
        metric: Whose jar it is, for messages.
        options: What follows `java` on its command line.
        seconds: How long it may run.
        folder: Where it runs and may leave files; the caller removes it.

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
                    stderr=log,  # a file: nobody has to read it for the jar to go on
                    cwd=folder,
                    encoding="utf-8",
                    errors="replace",
                    start_new_session=True,  # a group of its own, which can be killed as a whole
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
        """Writes lines and gives the answers, each as it comes.

        Both at once: were all written first, a jar that waits until its answers are read would wait forever.

        Raises:
            CaptionerError: The jar ends, or its time does, before it has answered.
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
        """Waits for the end of a jar that is asked nothing.

        Raises:
            CaptionerError: It fails, or its time is up.
        """
        self._process.communicate()
        if self._process.returncode:
            raise self.failure(f"failed with exit status {self._process.returncode}")

    def errors(self) -> str:
        """What it has written to its standard error so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def failure(self, what: str) -> CaptionerError:
        """The error that tells what the jar did, and the last line that it complained in."""
        if self._late.is_set():
            return CaptionerError(
                f"{self._metric} took longer than its limit of {self._seconds:g} s and was stopped; raise time_limit"
            )
        # A Java stack is indented and below what it is about.
        complaints = [line for line in self.errors().splitlines() if line.strip() and not line[0].isspace()]
        last = complaints[-1].strip() if complaints else "none"
        return CaptionerError(
            f"{self._metric}'s jar {what}; its last error line: {last}; check that `java -version` works"
        )

    def _write(self, text: str) -> None:
        assert self._process.stdin is not None
        # A jar that ended is noticed by who reads.
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(text)
            self._process.stdin.flush()

    def _stop_late(self) -> None:
        self._late.set()
        self._kill()

    def _kill(self) -> None:
        # Until it has been waited for, even a dead process keeps its number from being given to another.
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
