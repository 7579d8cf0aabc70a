"""``captioner pack``: a data set of any form in, tar shards out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.cli.options import set_pixel_limit
from captioner.data.shard_writer import SHARD_SIZE, plan_shards, write_shard
from captioner.data.skip_report import USUAL_SHARE, Skipped
from captioner.errors import CaptionerError
from captioner.utils.console import printable

if TYPE_CHECKING:
    from captioner.data.records import Record

SUMMARY = "write a data set as tar shards, to train on from few large files"
FILES = "data"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    text = "captions of any format that train reads, or a folder with them"
    parser.add_argument("data", nargs="+", metavar="FILE", help=text)
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the shards")
    parser.add_argument("--images", metavar="DIR", help="folder of the images (default: beside each file)")
    parser.add_argument("--images-anywhere", action="store_true", help="let the files name images outside their folder")
    parser.add_argument("--splits", metavar="DIR", help="folder of files that list the images of each split")
    text = f"most pictures of a shard (default: {SHARD_SIZE})"
    parser.add_argument("--shard-size", type=int, default=SHARD_SIZE, metavar="N", help=text)
    text = "another seed puts training pictures into another random order (default: 0)"
    parser.add_argument("--seed", type=int, default=0, metavar="N", help=text)
    text = "share of each file's images, or captions, that may be unusable and are left out (default: 0.01)"
    parser.add_argument("--max-skipped", type=float, default=USUAL_SHARE, metavar="SHARE", help=text)
    text = "refuse images with more pixels (default: 178956970)"
    parser.add_argument("--max-pixels", type=int, metavar="N", help=text)


def run(args: argparse.Namespace) -> int:
    """Write the shards; those that a former run has written stay."""
    from captioner.utils.counter import counted

    output = Path(args.output)
    for file in args.data:
        if output.resolve().is_relative_to(Path(file).resolve()):
            raise CaptionerError(f"output {output} is in {file}, which is read; write to another folder")
    if output.exists() and not output.is_dir():
        raise CaptionerError(f"output {output} is no folder; name one")
    set_pixel_limit(args)
    records: list[Record] = []
    for file in args.data:
        records += _read(args, Path(file), records)
    shards = plan_shards(records, output, args.shard_size, args.seed)
    written = sum(map(write_shard, counted(shards, "Writing shards", len(shards))))
    there = f" ({len(shards) - written} were there)" if written < len(shards) else ""
    print(f"{printable(str(output))}: {len(records)} pictures in {len(shards)} shards{there}")
    return 0


def _read(args: argparse.Namespace, file: Path, before: list[Record]) -> list[Record]:
    """The usable records of a file, after those of files before it."""
    from captioner.data.caption_files import read_records
    from captioner.data.filters import usable

    skipped = Skipped(file, args.max_skipped)
    folder, splits = (Path(path) if path else None for path in (args.images, args.splits))
    records = read_records(file, folder, splits, anywhere=args.images_anywhere, skipped=skipped)
    records = usable(records, skipped, before)
    skipped.report()
    return records
