"""``captioner caption``: caption images, one line each."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.cli.caption_ray import add_ray_arguments, refuse_ray_arguments, run_on_ray
from captioner.cli.messages import message_of
from captioner.cli.options import (
    add_decoding_arguments,
    add_model_arguments,
    check_ending,
    check_output,
    decoding_options,
    load_model,
    set_pixel_limit,
)
from captioner.errors import CaptionerError
from captioner.utils.console import print_status, printable

if TYPE_CHECKING:
    from captioner.caption import Caption
    from captioner.captioning import BaseCaptioner
    from captioner.decoding import DecodingOptions

SUMMARY = "caption photographs"
FILES = "photos"
STANDARD_INPUT = "-"
LARGEST_INPUT = 2**29
"""Maximum number of bytes read from standard input, which may be endless."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="image file, folder of images, tar shard, or - for one image on standard input",
    )
    add_model_arguments(parser)
    add_decoding_arguments(parser)
    text = "captions for each (default: 1)"
    parser.add_argument("--num-captions", type=int, default=argparse.SUPPRESS, metavar="N", help=text)
    text = "write no caption that is less sure to name nothing that is not there; from 0 to 1 (default: 0)"
    parser.add_argument("--min-confidence", type=float, default=0.0, metavar="P", help=text)
    parser.add_argument("--json", action="store_true", help="print one JSON object for each photograph")
    parser.add_argument("--output", metavar="FILE.jsonl", help="write JSON lines to this file, as they come")
    parser.add_argument("--resume", action="store_true", help="continue the file of an interrupted run")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there already")
    add_ray_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Caption every image, and report unreadable ones on standard error."""
    if args.resume and not args.output:
        raise CaptionerError("--resume continues a file of captions; name it with --output")
    if not 0 <= args.min_confidence <= 1:
        raise CaptionerError(f"--min-confidence is {args.min_confidence}; it must be at least 0 and at most 1")
    if args.overwrite and (args.resume or not args.output):
        raise CaptionerError("--overwrite starts a new file of captions; name it with --output, without --resume")
    if args.engine == "ray":
        return run_on_ray(args)
    refuse_ray_arguments(args)
    options = decoding_options(args)
    set_pixel_limit(args)
    names, empty = _photographs(args.photos)
    check_output(args.output, *names, *(args.model or ()))
    check_ending(args.output, ".jsonl", ".ndjson")
    _refuse_to_overwrite(args)
    for folder in empty:
        _report(folder, CaptionerError(_tell_empty(folder)), args.min_confidence)
    model = load_model(args)
    if args.min_confidence and not model.tells_confidence:
        raise CaptionerError("--min-confidence needs a model with a confidence; make one with captioner calibrate")
    if args.output:
        return _write(args, names, model, options) or int(bool(empty))
    from captioner.caption import describe

    failed = bool(empty)
    for name, result in zip(names, _stream(args, names, model, options), strict=True):
        failed |= isinstance(result, CaptionerError)
        _report(name, result, args.min_confidence)
        if args.json:
            print(json.dumps(describe(name, result, options.num_captions, args.min_confidence)), flush=True)
        elif not isinstance(result, CaptionerError):
            for caption in (result, *result.alternatives):
                if caption.is_sure(args.min_confidence):
                    print(f"{printable(name)}\t{printable(caption.text)}", flush=True)
    return 1 if failed else 0


def _refuse_to_overwrite(args: argparse.Namespace) -> None:
    """Refuse to overwrite captions, which may have taken hours."""
    from captioner.utils.files import refuse_to_follow

    if not args.output or args.resume or args.overwrite:
        return
    refuse_to_follow(Path(args.output), args.output)
    if os.path.isfile(args.output) and os.path.getsize(args.output):
        raise CaptionerError(
            f"{args.output}: already exists; continue it (--resume), replace it (--overwrite), or name another"
        )


def _write(args: argparse.Namespace, names: Sequence[str], model: BaseCaptioner, options: DecodingOptions) -> int:
    """Write captions to a file, each line immediately."""
    from captioner.caption import describe
    from captioner.cli.jsonl import Journal
    from captioner.cli.resume import mended, refuse_another_job, what_is_left
    from captioner.utils.counter import counted

    with Journal(args.output, args.resume) as journal:
        journal.drop(mended(journal.entries))
        for entry in journal.entries:
            if "error" in entry:
                _report(entry["image"], CaptionerError(entry["error"]), args.min_confidence)
        rest = what_is_left(names, journal.entries, args.batch_size)
        again = iter(rest.again)
        results = counted(_stream(args, rest.names, model, options), "Captioning", len(rest.names))
        for name, result in zip(rest.names, results, strict=True):
            entry = describe(name, result, options.num_captions, args.min_confidence)
            if old := next(again, None):
                refuse_another_job(old, entry, args.output)
            else:
                _report(name, result, args.min_confidence)
                journal.append(entry)
        return 1 if any("error" in entry for entry in journal.entries) else 0


def _stream(
    args: argparse.Namespace, names: Sequence[str], model: BaseCaptioner, options: DecodingOptions
) -> Iterator[Caption | CaptionerError]:
    sources = (standard_input() if name == STANDARD_INPUT else name for name in names)
    return model.stream(sources, options, args.batch_size)


def _report(name: str, result: Caption | CaptionerError, min_confidence: float) -> None:
    """Report an image without a caption on standard error, with the reason."""
    if isinstance(result, CaptionerError):
        print_status(f"captioner: {message_of(result)}")
    elif not result.is_sure(min_confidence):
        print_status(f"captioner: {printable(name)}: no caption; its confidence {result.confidence:.2f} is too low")


def standard_input() -> bytes:
    """Read an image from standard input."""
    from captioner.data.images import NamedBytes

    content = sys.stdin.buffer.read(LARGEST_INPUT + 1)
    if len(content) > LARGEST_INPUT:
        raise CaptionerError(f"standard input: has more than {LARGEST_INPUT:,} bytes; give a smaller image")
    named = NamedBytes(content)
    named.name = "standard input"
    return named


def _photographs(given: list[str]) -> tuple[list[str], list[str]]:
    """Find the images that are named or in a folder, and the folders without any."""
    from captioner.data.folders import find_images
    from captioner.utils.spelling import is_address

    if given.count(STANDARD_INPUT) > 1:
        raise CaptionerError("standard input (-) was given twice; it holds one image")
    names: list[str] = []
    empty: list[str] = []
    for name in given:
        if name == STANDARD_INPUT or is_address(name):  # Path would remove a slash of a URL
            names.append(name)
            continue
        found = [os.fspath(path) for path in find_images(name, with_shards=True)]
        if found == [STANDARD_INPUT]:  # a file of that name, as in ./-
            found = [os.path.join(os.curdir, STANDARD_INPUT)]
        names += found
        if not found:
            empty.append(name)
    if not names:
        raise CaptionerError(_tell_empty(empty[0]))
    return names, empty


def _tell_empty(folder: str) -> str:
    return f"folder {folder}: has no image; give one with .jpg, .png or the like"
