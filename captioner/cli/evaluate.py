"""``captioner evaluate``: model → captions → scores."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from captioner.cli.options import add_decoding_arguments, add_model_arguments, decoding_options
from captioner.cli.score import print_scores

SUMMARY = "caption a split of a data set and score the captions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    add_model_arguments(parser)
    parser.add_argument(
        "--data", required=True, metavar="FILE", help="captions: Karpathy, COCO, Flickr8k, CSV or JSONL"
    )
    parser.add_argument("--images", metavar="DIR", help="folder of the images (default: beside the captions)")
    parser.add_argument("--splits", metavar="DIR", help="folder of Flickr8k's split files")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"), help="(default: test)")
    add_decoding_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--output", metavar="FILE.json", help="also write the captions as a COCO result file")


def run(args: argparse.Namespace) -> int:
    """Captions every image of the split once and prints corpus scores by the COCO protocol."""
    from rich.progress import track

    from captioner.atomic import replacing
    from captioner.data.sources import read_records
    from captioner.errors import CaptionerError
    from captioner.metrics import score
    from captioner.pipeline import load

    options = decoding_options(args)
    folder, splits = (Path(p) if p else None for p in (args.images, args.splits))
    records = [r for r in read_records(Path(args.data), folder, splits) if r.split == args.split]
    if not records:
        raise CaptionerError(f"{args.data}: no image is in split {args.split!r}; choose another --split")
    model = load(args.model, args.device)
    results = model.stream((record.image for record in records), options, args.batch_size)
    candidates: dict[int | str, str] = {}
    for record, result in zip(
        records,
        track(results, "Captioning", total=len(records), disable=not sys.stderr.isatty()),
        strict=True,
    ):
        if isinstance(result, CaptionerError):
            raise result
        candidates[record.image_id] = result.text
    if args.output:
        with replacing(args.output) as path:
            path.write_text(json.dumps([{"image_id": k, "caption": v} for k, v in candidates.items()]))
    scores = score(candidates, {record.image_id: record.captions for record in records})
    if args.json:
        print(json.dumps({"images": len(records), "split": args.split, **scores}))
    else:
        method = f"sampled with seed {options.seed}" if options.sample else f"beam {options.beam_size}"
        print(f"{len(records)} images of split {args.split}, PTB tokens, {method}")
        print_scores(scores)
    return 0
