"""What grows with a data set, at a fourth, a half and the whole of its size: CPU time and memory, in a process each.

Captions have ten words, as unevenly used as people's. The cache is a file of the right size without content, which
takes no room on most disks; 1,000 of its features are read.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from timing import add_counts, random_caption

from captioner.data.feature_cache import FeatureCache, make_header
from captioner.metrics import score
from captioner.text.vocabulary import Vocabulary

SUMMARY = "CPU time and memory of vocabulary, scores and feature cache by the size of a data set"

_SHAPE = (1, 49, 1280)
"""Views, cells and channels of a picture's features."""

_READS = 1000

Work = Callable[[], object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The section's arguments."""
    add_counts(
        parser,
        ("--captions", 1_000_000, "captions counted for a vocabulary"),
        ("--candidates", 120_000, "captions scored against five references each"),
        ("--features", 120_000, "pictures of a feature cache"),
    )


def measure(args: argparse.Namespace) -> list[dict[str, str | float]]:
    """Prepares each work, then measures it, in a process of its own."""
    works = {
        "captions counted": (args.captions, _vocabulary),
        "candidates scored": (args.candidates, _scores),
        "features opened, 1,000 read": (args.features, _cache),
    }
    rows: list[dict[str, str | float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for what, (count, prepare) in works.items():
            for number in (count // 4, count // 2, count):
                seconds, megabytes = _measured(partial(prepare, number, Path(folder)))
                row = {"CPU seconds": seconds, "µs each": 1e6 * seconds / number, "MB more": megabytes}
                rows.append({"what": what, "count": f"{number:,}", **row})
    return rows


def _vocabulary(count: int, folder: Path) -> Work:
    captions = _captions(count)
    return lambda: Vocabulary.from_captions(captions)


def _scores(count: int, folder: Path) -> Work:
    candidates: dict[int | str, str] = dict(enumerate(_captions(count)))
    own = iter(_captions(5 * count))
    references: dict[int | str, list[str]] = {image: [next(own) for _ in range(5)] for image in candidates}
    return lambda: score(candidates, references)


def _cache(count: int, folder: Path) -> Work:
    path = folder / f"{count}.safetensors"
    header = make_header("benchmark", (count, *_SHAPE))
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + 2 * count * _SHAPE[0] * _SHAPE[1] * _SHAPE[2])
    places = random.Random(1).choices(range(count), k=_READS)

    def read() -> None:
        cache = FeatureCache(path, "benchmark")
        for place in places:
            cache.grid(place)

    return read


def _captions(count: int) -> list[str]:
    chance = random.Random(count)
    return [random_caption(chance) for _ in range(count)]


def _measured(prepare: Callable[[], Work]) -> tuple[float, float]:
    """CPU seconds of a work, and megabytes that it took more at its peak than before."""
    context = multiprocessing.get_context("fork")  # which has all modules already
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(prepare, there))
    process.start()
    there.close()
    seconds, megabytes = here.recv()
    process.join()
    return seconds, megabytes


def _send(prepare: Callable[[], Work], there: Connection) -> None:
    work = prepare()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    before = _status("VmRSS")
    begin = time.process_time()  # which other work on the machine does not lengthen
    work()
    there.send((time.process_time() - begin, (_status("VmHWM") - before) / 1e3))


def _status(name: str) -> int:
    """A field of this process's status, in kilobytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
