"""What writing captions costs, against captioning the same folder, in one process.

Writing is timed alone, with captions made before: other work on the machine disturbs captioning by more than writing
takes. Both cores are busy while images are captioned, so that what counts is the time of the CPU.

Files are copied to the folder of temporary files; TMPDIR names another, on the disk that is to be measured.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from timing import add_counts

from captioner.caption import Caption
from captioner.captioning import BATCH_SIZE
from captioner.data.folders import find_images
from captioner.decoding import DecodingOptions
from captioner.pipeline import load
from captioner.sidecars.forms import OF_FOLDERS, OF_PICTURES
from captioner.sidecars.job import Job
from captioner.sidecars.policy import Captioned, Policy
from captioner.sidecars.survey import Wish
from captioner.sidecars.targets import Maker
from captioner.sidecars.xmp_files import NAMES
from captioner.utils.runtime import keep_freed_memory

SETTLED = 6
"""Seconds after which deleted files no longer slow the making of others: for five, ext4 does not use their inodes
again, but looks at each of them."""

SUMMARY = "what writing captions costs, against captioning a folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The section's arguments."""
    parser.add_argument("--images", required=True, metavar="DIR", help="folder of photographs, which are copied first")
    add_counts(
        parser,
        ("--count", 256, "of them that are used"),
        ("--batch-size", BATCH_SIZE, "photographs at once"),
        ("--repeats", 2, "runs of each, in turn; the fastest counts"),
    )


def measure(args: argparse.Namespace) -> list[dict[str, str | float]]:
    """Times all of them on copies of the same files."""
    files = list(find_images(args.images))[: args.count]
    model = load(precision="auto")
    keep_freed_memory()
    captions: list[Captioned] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def caption() -> None:
            found = model.stream(find_images(folder), DecodingOptions(), args.batch_size)
            captions[:] = [Captioned(each.text, each.log_probability) for each in found if isinstance(each, Caption)]

        def write(*forms: str) -> None:
            wish = Wish([folder], forms, NAMES[0])
            with Job(wish, Policy(), Maker("benchmark", "0"), "benchmark", False, lambda row: None) as job:
                for _, each in zip(job.wanted(), captions, strict=True):
                    job.take(each)
                job.finish()

        ways: dict[str, Callable[[], None]] = {"captioning": caption}
        for form in OF_PICTURES:
            ways[f"writing {form}"] = lambda form=form: write(form)  # type: ignore[misc]
        ways["writing all of them"] = lambda: write(*OF_PICTURES, *OF_FOLDERS)
        found = _fastest_on_fresh_copies(ways, files, folder, args.repeats)
    whole = found["captioning"][1]
    return [
        {"way": way, "ms an image": 1e3 * wall / len(files), "of CPU": 1e3 * cpu / len(files), "%": 100 * cpu / whole}
        for way, (wall, cpu) in found.items()
    ]


def _fastest_on_fresh_copies(
    ways: dict[str, Callable[[], None]], files: list[Path], folder: Path, repeats: int
) -> dict[str, tuple[float, float]]:
    """Seconds of each way's fastest run, and of its CPU; copying the files before each is not counted."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            for old in folder.iterdir():
                old.unlink()
            for number, file in enumerate(files):
                shutil.copyfile(file, folder / f"{number:06d}{file.suffix}")
            os.sync()
            time.sleep(SETTLED)
            begin, cpu = time.perf_counter(), time.process_time()
            way()
            if repeat:  # the first warms up
                seconds[name].append((time.perf_counter() - begin, time.process_time() - cpu))
    return {name: (min(wall for wall, _ in each), min(cpu for _, cpu in each)) for name, each in seconds.items()}
