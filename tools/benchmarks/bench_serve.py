"""The server under load, against captions of a folder and of single pictures in one process.

Clients with 1, 8 and 32 connections ask on the loopback. Every answer has to be the caption of the picture that was
sent. Then come many requests, of which one in twenty holds a broken picture, which has to be refused, and as many are
cut before their answer; memory must no longer grow. At the end SIGTERM comes while pictures are waiting, and all of
them have to be answered.

What is compared is measured one after the other, in rounds, since other work slows the machine for minutes: the table
has the fastest round of each, and the column "by its own" the median over the rounds of what is compared. Every phase
has a time limit: with the defaults all takes ten minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count, cycle
from pathlib import Path
from statistics import median
from tempfile import NamedTemporaryFile
from typing import TypeAlias

from timing import add_counts

from captioner.captioning import BaseCaptioner
from captioner.data.folders import find_images
from captioner.pipeline import load
from captioner.utils.runtime import keep_freed_memory

SUMMARY = "captions a second, waiting times and memory of the server"
CONNECTIONS = (1, 8, 32)
PATIENCE = 60
"""Seconds that anything but the phase of many requests may take at most."""

LONGEST = 300
"""Seconds of the phase of many requests, which goes on with fewer where they are up."""

THROUGHPUT, LATENCY, GROWTH = 0.8, 1.3, 1.05
"""Limits: of images per second with most connections, by those of a folder; of the 95th percentile with one connection,
by that of single captions; and of memory after many requests, by that after the first half as many."""

WARM_UP = 2
"""Seconds that each way runs before it is timed: memory that lay idle is slow at first."""

EVERY = 20
"""Of so many requests in trouble one holds a broken picture and one is cut."""

RATIO = "by its own"
"""Images per second by a folder's, or the 95th percentile by single captions', in the same round; 0 for other ways."""

FOLDER, SINGLE, FIRST, MANY = "folder", "single captions", "first requests", "many requests"

Row: TypeAlias = "dict[str, str | float]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The section's arguments."""
    parser.add_argument("--images", required=True, metavar="DIR", help="folder of photographs")
    parser.add_argument("--model", metavar="FILE", help="checkpoint (default: the embedded one)")
    parser.add_argument("--precision", default="auto", help="as for captioner caption (default: auto)")
    add_counts(
        parser,
        ("--count", 128, "photographs that are used"),
        ("--seconds", 10, "seconds of each way in a round"),
        ("--rounds", 3, "rounds of what is compared"),
        ("--requests", 2000, "requests over which memory has to stay flat"),
    )


@dataclass
class Tally:
    """What became of the requests of one phase.

    Attributes:
        seconds: From a request to its answer, of those with a good picture.
        wrong: Answers that were not those of the picture.
        lost: Requests without an answer.
    """

    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    lost: int = 0


def measure(args: argparse.Namespace) -> list[Row]:
    """Times the captioner in this process, then the server."""
    files = list(find_images(args.images))[: args.count]
    pictures = [file.read_bytes() for file in files]
    keep_freed_memory()
    model = load(args.model, precision=args.precision)
    expected = [caption.text for caption in model.caption(pictures)]
    model.caption(files[0])
    with _server(args) as server:
        most = CONNECTIONS[-1]

        def load_with(connections: int, seconds: float, requests: int, *, troubled: bool = False) -> Row:
            _load(server, pictures, expected, connections, WARM_UP, sys.maxsize, troubled=False)
            begin = time.perf_counter()
            tally = _load(server, pictures, expected, connections, seconds, requests, troubled)
            rate = len(tally.seconds) / (time.perf_counter() - begin)
            return _row(_name(connections), rate, tally.seconds, tally, _memory(server))

        rounds = []
        for _ in range(args.rounds):
            folder = _folder(model, files, args.seconds)
            *fewer, full = (load_with(connections, args.seconds, sys.maxsize) for connections in CONNECTIONS[1:])
            single = _single(model, files, args.seconds)
            one = load_with(CONNECTIONS[0], args.seconds, sys.maxsize)
            full[RATIO] = float(full["images/s"]) / float(folder["images/s"])
            one[RATIO] = float(one["p95 ms"]) / float(single["p95 ms"])
            rounds.append([folder, single, one, *fewer, full])
        best = [_best(rows) for rows in zip(*rounds, strict=True)]
        first = load_with(most, LONGEST, args.requests // 2, troubled=True) | {"way": FIRST}
        many = load_with(most, LONGEST, args.requests, troubled=True) | {"way": MANY}
        tally = _terminate(server, pictures, expected)
    return [*best, first, many, _row("SIGTERM", 0, tally.seconds, tally, 0)]


def _best(rows: Sequence[Row]) -> Row:
    """The fastest of several rounds; failures of all of them count, and of ratios the median."""
    failed = {column: sum(float(row[column]) for row in rows) for column in ("wrong", "lost")}
    ratio = median(float(row[RATIO]) for row in rows)
    return {**max(rows, key=lambda row: float(row["images/s"])), **failed, RATIO: ratio}


def _folder(model: BaseCaptioner, files: Sequence[Path], seconds: float) -> Row:
    taken = _repeated([partial(model.caption, files)], seconds)
    return _row(FOLDER, len(files) * len(taken) / sum(taken), [], Tally(), 0)


def _single(model: BaseCaptioner, files: Sequence[Path], seconds: float) -> Row:
    taken = _repeated([partial(model.caption, file) for file in files], seconds)
    return _row(SINGLE, len(taken) / sum(taken), taken, Tally(), 0)


def _repeated(calls: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """Seconds of each of the calls, which are repeated until the time is up, those of the warm-up left out."""
    taken: list[float] = []
    started = time.perf_counter()
    for call in cycle(calls):
        begin = time.perf_counter()
        call()
        if begin - started >= WARM_UP:
            taken.append(time.perf_counter() - begin)
        if sum(taken) > seconds:
            break
    return taken


def targets(rows: Sequence[Mapping[str, str | float]]) -> list[Row]:
    """What was to be reached, and what was."""
    found = {str(row["way"]): row for row in rows}

    most, one = _name(CONNECTIONS[-1]), _name(CONNECTIONS[0])
    throughput, latency = float(found[most][RATIO]), float(found[one][RATIO])
    growth = float(found[MANY]["MB"]) / float(found[FIRST]["MB"])
    requests = float(found[MANY]["answers"])
    failed = sum(float(row["wrong"]) + float(row["lost"]) for row in rows)
    return [
        _target(f"images/s with {most}, by a folder's", f"at least {THROUGHPUT}", throughput, throughput >= THROUGHPUT),
        _target("p95 with 1 connection, by single captions'", f"at most {LATENCY}", latency, latency <= LATENCY),
        _target(f"memory after {requests:.0f} more answers", f"at most {GROWTH}", growth, growth <= GROWTH),
        _target("answers that are wrong or lost", "0", failed, failed == 0),
    ]


def _target(what: str, wanted: str, found: float, met: bool) -> Row:
    return {"target": what, "wanted": wanted, "found": found, "met": "yes" if met else "NO"}


def _name(connections: int) -> str:
    return f"{connections} connection{'s' if connections > 1 else ''}"


def _row(name: str, rate: float, seconds: Sequence[float], tally: Tally, memory: float) -> Row:
    ordered = sorted(seconds) or [0.0]
    return {
        "way": name,
        "images/s": rate,
        "median ms": 1000 * ordered[len(ordered) // 2],
        "p95 ms": 1000 * ordered[int(0.95 * (len(ordered) - 1))],
        "answers": len(tally.seconds),
        "wrong": tally.wrong,
        "lost": tally.lost,
        "MB": memory,
        RATIO: 0.0,
    }


@dataclass
class _Server:
    process: subprocess.Popen[bytes]
    host: str
    port: int

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)

    def get(self, path: str) -> str:
        connection = self.connect()
        connection.request("GET", path)
        text = connection.getresponse().read().decode()
        connection.close()
        return text


@contextmanager
def _server(args: argparse.Namespace) -> Iterator[_Server]:
    command = [sys.executable, "-m", "captioner", "serve", "--port", "0", "--precision", args.precision]
    command += ["--model", args.model] if args.model else []
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    # A pipe that nobody reads would hold up a server that has much to say.
    with NamedTemporaryFile() as said, subprocess.Popen(command, stderr=said, env=environment) as process:
        try:
            yield _Server(process, *_address(process, Path(said.name)))
        finally:
            process.kill()


def _address(process: subprocess.Popen[bytes], said: Path) -> tuple[str, int]:
    """Host and port, as soon as the server tells them."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(r"http://([\d.]+):(\d+)\n", said.read_text()):
            return found[1], int(found[2])
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start: {said.read_text()}")


def _load(
    server: _Server,
    pictures: Sequence[bytes],
    expected: Sequence[str],
    connections: int,
    seconds: float,
    most: int,
    troubled: bool,
) -> Tally:
    """Asks over several connections at once, until the time or the requests are up; in trouble, some go wrong."""
    tally, numbers, lock = Tally(), count(), threading.Lock()
    end = time.monotonic() + seconds

    def client() -> None:
        connection = server.connect()
        while time.monotonic() < end:
            with lock:
                number = next(numbers)
            if number >= most:
                break
            index = number % len(pictures)
            if troubled and number % EVERY == EVERY - 1:
                _cut(server, pictures[index])
            elif troubled and number % EVERY == EVERY // 2:
                status, _, _ = _ask(connection, pictures[index][: len(pictures[index]) // 3])
                with lock:
                    tally.wrong += status not in (None, http.client.BAD_REQUEST)
                    tally.lost += status is None
            else:
                _count(tally, lock, expected[index], *_ask(connection, pictures[index]))
        connection.close()

    _in_threads([client] * connections)
    return tally


def _in_threads(functions: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _ask(connection: http.client.HTTPConnection, picture: bytes) -> tuple[int | None, str, float]:
    """The status of the answer, its caption and the seconds until it came; no status where none came."""
    begin = time.perf_counter()
    try:
        connection.request("POST", "/caption", picture)
        response = connection.getresponse()
        content = json.loads(response.read())
    except (OSError, http.client.HTTPException):
        connection.close()
        return None, "", 0.0
    return response.status, content.get("caption", ""), time.perf_counter() - begin


def _count(tally: Tally, lock: threading.Lock, expected: str, status: int | None, text: str, seconds: float) -> None:
    with lock:
        if status is None:
            tally.lost += 1
        elif status != http.client.OK or text != expected:
            tally.wrong += 1
        else:
            tally.seconds.append(seconds)


def _cut(server: _Server, picture: bytes) -> None:
    """Sends a picture and goes away."""
    connection = server.connect()
    with suppress(OSError):  # a server that has gone is told by the requests that it loses
        connection.request("POST", "/caption", picture)
    connection.close()


def _terminate(server: _Server, pictures: Sequence[bytes], expected: Sequence[str]) -> Tally:
    """Asks for many captions, and ends the server as soon as all of them wait."""
    tally, lock = Tally(), threading.Lock()
    begun = len(pictures[: CONNECTIONS[-1]])

    def client(index: int) -> None:
        connection = server.connect()
        _count(tally, lock, expected[index], *_ask(connection, pictures[index]))
        connection.close()

    def end() -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            waiting = json.loads(server.get("/health"))["queue"]
            if waiting + len(tally.seconds) + tally.wrong + tally.lost >= begun:
                break
        server.process.send_signal(signal.SIGTERM)

    _in_threads([end, *(partial(client, index) for index in range(begun))])
    code = server.process.wait(PATIENCE)
    if code:
        raise RuntimeError(f"the server ended with {code}")
    return tally


def _memory(server: _Server) -> float:
    """Megabytes of the server's process."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
