"""Copies the photographs of a caption file that are not square as squares: their middle, or the whole on a ground.

python tools/experiments/make_squares.py captions.jsonl --ways crop black --output squares

writes a folder and a caption file of each way. `captioner evaluate --data squares/crop.jsonl` then tells what the
way of making photographs square costs, against `squares/whole.jsonl`, which names the same photographs as they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageOps

from captioner.data.caption_files import read_records
from captioner.data.images import open_image
from captioner.data.records import SPLITS, write_jsonl
from captioner.errors import CaptionerError

GROUNDS = {"black": (0, 0, 0), "gray": (124, 116, 104)}
"""Colors of the ground; gray is the mean of ImageNet's photographs, which a CNN's input has as zero."""

WAYS = ("crop", *GROUNDS)


def squared(image: Image.Image, way: str) -> Image.Image:
    """A square copy of an image, at its own scale.

    Args:
        image: An image in RGB.
        way: ``crop`` for the middle square, or a key of `GROUNDS` for the whole image in the middle of one.
    """
    if way == "crop":
        side = min(image.size)
        left, top = ((length - side) // 2 for length in image.size)
        return image.crop((left, top, left + side, top + side))
    side = max(image.size)
    return ImageOps.pad(image, (side, side), color=GROUNDS[way])


def write_squares(captions: Path, split: str, ways: Sequence[str], output: Path) -> int:
    """Write the copies and their caption files.

    Returns:
        The number of photographs that are not square.

    Raises:
        CaptionerError: The caption file or a photograph cannot be read, or there is no photograph to copy.
    """
    records = read_records(captions, anywhere=True, wanted=(split,))
    records = [record for record in records if len(set(open_image(record.image).size)) > 1]
    if not records:
        raise CaptionerError(f"{captions}: split {split} has no photograph that is not square; name another one")
    for way in ways:
        (output / way).mkdir(parents=True, exist_ok=True)
        copies = [replace(record, image=output / way / f"{number:06}.png") for number, record in enumerate(records)]
        for record, copy in zip(records, copies, strict=True):
            squared(open_image(record.image), way).save(copy.image)
        write_jsonl(copies, output / f"{way}.jsonl")
    write_jsonl(records, output / "whole.jsonl")
    return len(records)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return 0, or 1 on an error."""
    parser = argparse.ArgumentParser(description="Copy photographs that are not square as squares.")
    parser.add_argument("captions", type=Path, metavar="FILE", help="file with captions, as for captioner evaluate")
    parser.add_argument("--split", choices=SPLITS, default="val", help="default: val")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY", help=", ".join(WAYS))
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write to")
    args = parser.parse_args(argv)
    try:
        print(f"{write_squares(args.captions, args.split, args.ways, args.output)} photographs")
    except (CaptionerError, OSError) as error:
        print(f"make_squares: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
