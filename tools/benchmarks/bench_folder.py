"""Captioning a folder against image by image, at full scale, and against decoding the files and the CNN alone."""

from __future__ import annotations

import argparse
import resource
from collections.abc import Callable
from pathlib import Path

import torch
from timing import add_counts, fastest

from captioner.captioning import BATCH_SIZE
from captioner.data.folders import find_images
from captioner.data.images import open_image
from captioner.decoding import DecodingOptions
from captioner.errors import CaptionerError
from captioner.pipeline import load
from captioner.utils.runtime import keep_freed_memory
from captioner.utils.threads import map_in_threads

SUMMARY = "captions of a folder in images a second"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The section's arguments."""
    parser.add_argument("--images", required=True, metavar="DIR", help="folder of photographs")
    add_counts(
        parser,
        ("--count", 200, "of them that are used"),
        ("--batch-size", BATCH_SIZE, "photographs at once"),
        ("--beam-size", 5, "width of the beam"),
        ("--repeats", 2, "runs of each, in turn; the fastest counts"),
    )
    parser.add_argument("--model", metavar="FILE", help="checkpoint (default: the embedded one)")
    parser.add_argument("--precision", default="auto", help="as for captioner caption (default: auto)")


def measure(args: argparse.Namespace) -> list[dict[str, str | float]]:
    """Times all of them on the same files."""
    files: list[Path] = list(find_images(args.images))[: args.count]
    options = DecodingOptions(beam_size=args.beam_size)
    plain, fast = load(args.model), load(args.model, precision=args.precision)
    batches = [files[start : start + args.batch_size] for start in range(0, len(files), args.batch_size)]

    def read() -> None:
        for batch in batches:
            map_in_threads(fast._load, batch, torch.get_num_threads())

    def read_and_encode() -> None:
        for batch in batches:
            read = map_in_threads(fast._load, batch, torch.get_num_threads())
            fast._grids([image for image in read if not isinstance(image, CaptionerError)])

    def caption() -> None:
        for _ in fast.stream(files, options, args.batch_size):
            pass

    def decode_at_full_scale() -> None:
        for batch in batches:
            whole = map_in_threads(open_image, batch, torch.get_num_threads())
            list(fast.stream(whole, options, args.batch_size))

    def one_by_one() -> None:
        for file in files:
            list(plain.stream([file], options))

    baseline = fastest({"image by image, float32": one_by_one}, 1)  # as malloc is by default
    keep_freed_memory()
    ways: dict[str, Callable[[], object]] = {
        "limit: decoding the files": read,
        "limit: decoding and the CNN": read_and_encode,
        "captioner, files decoded at full scale": decode_at_full_scale,
        "captioner": caption,
    }
    seconds = {**baseline, **fastest(ways, args.repeats)}
    limit = seconds["limit: decoding and the CNN"]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return [
        {
            "way": name,
            "seconds": each,
            "images/s": len(files) / each,
            "times decoding and CNN": each / limit,
            "peak GB of all": memory,
        }
        for name, each in seconds.items()
    ]
