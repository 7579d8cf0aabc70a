"""Writes ``data/flickr8k/german.jsonl``: German captions of Flickr8k, for configs/flickr8k/german.yaml.

    python tools/data/prepare_german.py captions.jsonl

The captions are those of Multi30k's task 2 (D. Elliott et al., 2016), five for each picture, by people who saw the
picture and no English, as JSON lines ``{"image": …, "captions": […], "split": …}`` with Karpathy's splits. Of those to
train on, some were typed without capitals: every German sentence has a noun, so that one without a capital behind its
first letter is misspelled and left out. The others begin with a capital and end with a full stop. What is validated and
tested on stays as people wrote it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from captioner.data.formats import parse
from captioner.errors import CaptionerError
from captioner.utils.files import replacing

OUTPUT = Path("data/flickr8k/german.jsonl")
_ENDS = ".!?…"


def tidy(captions: Iterable[str]) -> Iterator[str]:
    """Spell captions as German is spelled; those without a noun's capital are left out."""
    for caption in captions:
        text = " ".join(caption.split())
        if text[1:] != text[1:].lower():
            yield text[0].upper() + text[1:].rstrip(" ,;:") + ("" if text[-1] in _ENDS else ".")


def write_german(output: Path, source: Path) -> str:
    """Writes the captions to train, validate and test on.

    Args:
        output: The file to write: JSON lines.
        source: The captions as they were published.

    Returns:
        What was written, in one line.

    Raises:
        CaptionerError: The source cannot be read, or the output not written.
    """
    records = parse(source, None, None)
    kept = {"train": 0, "val": 0, "test": 0}
    lines = []
    for record in records:
        captions = [*tidy(record.captions)] if record.split == "train" else [*record.captions]
        if captions:
            kept[record.split] += len(captions)
            row = {"image": str(record.image), "captions": captions, "split": record.split}
            lines.append(json.dumps(row, ensure_ascii=False))
    with replacing(output) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    counts = ", ".join(f"{count} for {split}" for split, count in kept.items())
    left_out = sum(len(record.captions) for record in records) - sum(kept.values())
    return f"{output}: captions of {len(lines)} pictures: {counts}; {left_out} without capitals are left out"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("captions", type=Path, help="the published captions, JSON lines")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"the file to write (default: {OUTPUT})")
    args = parser.parse_args(arguments)
    try:
        print(write_german(args.output, args.captions))
    except CaptionerError as error:
        print(f"prepare_german: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
