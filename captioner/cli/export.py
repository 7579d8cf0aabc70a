"""``captioner export``: convert Lightning checkpoints to a safe, self-contained file."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from captioner.cli.options import check_ending, check_output
from captioner.utils.console import printable

SUMMARY = "turn a checkpoint of a training run (last.ckpt) into one self-contained file"
FILES = "checkpoints"
DTYPES = ("float32", "float16", "bfloat16", "int8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "checkpoints",
        nargs="+",
        metavar="CHECKPOINT",
        help="a .ckpt of captioner train, or a .safetensors of ours; of several, the mean of their weights is written",
    )
    parser.add_argument(
        "--ensemble",
        action="store_true",
        help="write several as they are, into one file that captions with the mean of their log-probabilities",
    )
    parser.add_argument("--output", required=True, metavar="FILE.safetensors", help="the file to write")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="precision of the matrices (default: float32)"
    )
    parser.add_argument("--card", metavar="FILE.json", help="JSON object to add to the model card")


def run(args: argparse.Namespace) -> int:
    """Write one file."""
    from dataclasses import replace

    import torch

    from captioner import checkpoint
    from captioner.checkpoint.merge import average, together
    from captioner.errors import CaptionerError

    check_ending(args.output, ".safetensors")
    check_output(args.output, *args.checkpoints, args.card)
    given: list[checkpoint.Checkpoint] = []
    for index, name in enumerate(args.checkpoints):
        if any(os.path.realpath(name) == os.path.realpath(other) for other in args.checkpoints[:index]):
            raise CaptionerError(f"checkpoint {name}: is given twice; each counts once")
        given += checkpoint.read_members(name) if args.ensemble else [checkpoint.read(name)]
    for content in given:
        content.build() if args.ensemble else content.verify()  # language models have no ensemble
    first, *others = together(given) if args.ensemble else [average(given)]
    if args.card:
        try:
            card = json.loads(Path(args.card).read_text(encoding="utf-8-sig"), parse_constant=_refuse)
        except (OSError, ValueError, RecursionError) as error:
            raise CaptionerError(f"card {args.card}: cannot be read as JSON: {error}") from error
        if not isinstance(card, dict):
            raise CaptionerError(f'card {args.card}: is not a JSON object; write {{"licence": …}} and the like')
        first = replace(first, card={**first.card, **card})
    checkpoint.write(args.output, first, *others, dtype=getattr(torch, args.dtype))
    print(printable(args.output))
    return 0


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")
