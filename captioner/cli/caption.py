"""``captioner caption``: photographs in, a line for each out."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from captioner.atomic import replacing
from captioner.cli.options import add_decoding_arguments, add_model_arguments, decoding_options
from captioner.errors import CaptionerError

if TYPE_CHECKING:
    from captioner.pipeline import Caption

SUMMARY = "caption photographs"
STANDARD_INPUT = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument(
        "photos", nargs="+", metavar="PHOTO", help="image file, folder of images, or - for one image on standard input"
    )
    add_model_arguments(parser)
    add_decoding_arguments(parser)
    text = "captions for each (default: 1)"
    parser.add_argument("--num-captions", type=int, default=argparse.SUPPRESS, metavar="N", help=text)
    parser.add_argument("--json", action="store_true", help="print one JSON object for each photograph")
    parser.add_argument("--output", metavar="FILE.jsonl", help="write JSON lines to this file instead of printing")


def run(args: argparse.Namespace) -> int:
    """Captions every photograph; those that cannot be read are named on standard error."""
    from captioner.pipeline import load

    options = decoding_options(args)
    names = list(_photographs(args.photos))
    sources = (sys.stdin.buffer.read() if name == STANDARD_INPUT else name for name in names)
    model = load(args.model, args.device)
    failed = False
    with ExitStack() as stack:
        out = sys.stdout
        if args.output:
            out = stack.enter_context(stack.enter_context(replacing(args.output)).open("w", encoding="utf-8"))
        for name, result in zip(names, model.stream(sources, options, args.batch_size), strict=True):
            if isinstance(result, CaptionerError):
                failed = True
                print(f"captioner: {printable(str(result))}", file=sys.stderr)
                entry: dict[str, Any] = {"image": name, "error": str(result)}
            else:
                entry = describe(name, result, options.num_captions)
            if args.json or args.output:
                print(json.dumps(entry), file=out, flush=True)
            elif not isinstance(result, CaptionerError):
                for caption in (result, *result.alternatives):
                    print(f"{printable(name)}\t{printable(caption.text)}", file=out, flush=True)
    return 1 if failed else 0


def describe(name: str, caption: Caption, count: int) -> dict[str, Any]:
    """The JSON object of one photograph."""
    entry: dict[str, Any] = {
        "image": name,
        "caption": caption.text,
        "log_probability": caption.log_probability,
    }
    if count > 1:
        entry["captions"] = [
            {"caption": each.text, "log_probability": each.log_probability} for each in (caption, *caption.alternatives)
        ]
    return entry


def printable(text: str) -> str:
    """Text for a terminal: control characters and bytes that are no text are shown as escapes."""
    visible = "".join(
        c if c.isprintable() or c == " " else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )
    encoding = sys.stdout.encoding or "utf-8"
    return visible.encode(encoding, "backslashreplace").decode(encoding)


def _photographs(given: list[str]) -> Iterator[str]:
    from captioner.images import find_images

    if given.count(STANDARD_INPUT) > 1:
        raise CaptionerError("standard input (-) was given twice; it holds one image")
    for name in given:
        if name == STANDARD_INPUT:
            yield name
            continue
        found = [os.fspath(path) for path in find_images(name)]
        if not found:
            raise CaptionerError(f"folder {name}: has no image; give one with .jpg, .png or the like")
        yield from found
