"""Captioning a folder and writing the captions, against captioning it alone, in one process.

Files are copied to the folder of temporary files; TMPDIR names another, on the disk that is to be measured.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from timing import add_counts

from captioner.captioning import BATCH_SIZE
from captioner.data.folders import find_images
from captioner.decoding import DecodingOptions
from captioner.errors import CaptionerError
from captioner.pipeline import load
from captioner.sidecars.forms import OF_FOLDERS, OF_PICTURES
from captioner.sidecars.job import Job
from captioner.sidecars.policy import Captioned, Policy
from captioner.sidecars.survey import Wish
from captioner.sidecars.targets import Maker
from captioner.sidecars.xmp_files import NAMES
from captioner.utils.runtime import keep_freed_memory

SUMMARY = "what writing captions adds to captioning a folder"


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
    options = DecodingOptions()
    model = load(precision="auto")
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def caption() -> None:
            for _ in model.stream(find_images(folder), options, args.batch_size):
                pass

        def write(*forms: str) -> None:
            wish = Wish([folder], forms, NAMES[0])
            with Job(wish, Policy(), Maker("benchmark", "0"), "benchmark", False, lambda row: None) as job:
                for result in model.stream(job.wanted(), options, args.batch_size):
                    if isinstance(result, CaptionerError):
                        job.take(result)
                    else:
                        job.take(Captioned(result.text, result.log_probability))
                job.finish()

        ways: dict[str, Callable[[], None]] = {"captions alone": caption}
        for form in OF_PICTURES:
            ways[f"and {form}"] = lambda form=form: write(form)  # type: ignore[misc]
        ways["and all of them"] = lambda: write(*OF_PICTURES, *OF_FOLDERS)
        seconds = _fastest_on_fresh_copies(ways, files, folder, args.repeats)
    alone = seconds["captions alone"]
    return [
        {"way": way, "seconds": each, "images/s": len(files) / each, "% more": 100 * (each / alone - 1)}
        for way, each in seconds.items()
    ]


def _fastest_on_fresh_copies(
    ways: dict[str, Callable[[], None]], files: list[Path], folder: Path, repeats: int
) -> dict[str, float]:
    """Seconds of each way's fastest run; copying the files before each is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            for old in folder.iterdir():
                old.unlink()
            for number, file in enumerate(files):
                shutil.copyfile(file, folder / f"{number:06d}{file.suffix}")
            begin = time.perf_counter()
            way()
            if repeat:  # the first warms up
                seconds[name].append(time.perf_counter() - begin)
    return {name: min(each) for name, each in seconds.items()}
