"""Writes ``data/captions.jsonl.gz``: captions without pictures, for configs/language_model.yaml.

    python tools/data/prepare_text.py

They are Flickr30k's (Young et al., TACL 2014) as Karpathy publishes them, without the pictures that Flickr8k has too:
those would bring captions of its test images into training. Both name a picture by its number on Flickr, Flickr8k with
more behind it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from download import Archive, fetch
from prepare import told, unpack
from prepare_coco import COCO
from prepare_flickr8k import FLICKR8K

from captioner.data.formats import parse
from captioner.utils.files import replacing

FLICKR30K_CAPTIONS = "dataset_flickr30k.json"
OUTPUT = Path("data/captions.jsonl.gz")


def write_text(output: Path, folder: Path, base_url: str | None = None, archive: Archive = COCO.captions) -> str:
    """Fetches Karpathy's captions where they are missing, and writes those that Flickr8k does not have.

    Args:
        output: The file to write: gzip, JSON lines, each ``{"captions": […], "split": "train"}`` of one picture.
        folder: Where the archive and the caption files are kept.
        base_url: Another place to fetch the archive from.
        archive: Karpathy's captions of all three sets.

    Returns:
        What was written, in one line.

    Raises:
        CaptionerError: Something cannot be fetched, or is not what was published.
    """
    files = [folder / name for name in (FLICKR30K_CAPTIONS, FLICKR8K.captions_file)]
    missing = {file.name for file in files if not file.exists()}
    if missing:
        unpack(fetch(archive, folder, base_url), missing, folder)
    flickr30k, flickr8k = (parse(file, None, None) for file in files)
    taken = {_number(record.image) for record in flickr8k}
    kept = [record for record in flickr30k if _number(record.image) not in taken]
    lines = (json.dumps({"captions": record.captions, "split": record.split}) for record in kept)
    with replacing(output) as temporary:
        # No date in the header: the same captions give the same file.
        temporary.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0))
    captions = sum(len(record.captions) for record in kept)
    left_out = len(flickr30k) - len(kept)
    return f"{output}: {captions} captions of {len(kept)} pictures; {left_out} that Flickr8k has too are left out"


def _number(image: Path) -> str:
    return image.stem.partition("_")[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns 0, 2 when something could not be done, or 130 after Ctrl-C."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="what to write (default: %(default)s)")
    parser.add_argument(
        "--folder", type=Path, default=FLICKR8K.folder, help="where Karpathy's captions are kept (default: %(default)s)"
    )
    parser.add_argument("--base-url", help="fetch the captions from this place, for instance a mirror")
    args = parser.parse_args(argv)
    return told(parser.prog, lambda: write_text(args.output, args.folder, args.base_url))


if __name__ == "__main__":
    sys.exit(main())
