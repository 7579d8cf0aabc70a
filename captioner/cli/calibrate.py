"""``captioner calibrate``: fit the confidence of a model's captions."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.cli.options import (
    add_decoding_arguments,
    add_drawn_arguments,
    add_model_arguments,
    check_output,
    decoding_options,
    load_model,
    set_pixel_limit,
)
from captioner.data.skip_report import USUAL_SHARE, Skipped
from captioner.errors import CaptionerError
from captioner.utils.console import printable

if TYPE_CHECKING:
    from captioner.caption import Caption
    from captioner.data.records import Record
    from captioner.decoding import DecodingOptions
    from captioner.models.confidence import Evidence
    from captioner.pipeline import Captioner

SUMMARY = "fit a model's confidence in its captions on validation data, and write the model with it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_model_arguments(parser)
    text = "photographs that the model was not trained on, with captions: Karpathy, COCO, Flickr8k, CSV or JSONL"
    parser.add_argument("--data", required=True, nargs="+", metavar="FILE", help=text)
    parser.add_argument("--images", metavar="DIR", help="folder of their images (default: beside each file)")
    parser.add_argument("--images-anywhere", action="store_true", help="let the files name images outside their folder")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"), help="(default: val)")
    add_drawn_arguments(parser)
    text = "folder of pictures that are no photographs: drawings, pages, charts, screenshots, noise"
    parser.add_argument("--nonphotos", required=True, metavar="DIR", help=text)
    text = "share of each file's images, or captions, that may be unusable and are skipped (default: 0.01)"
    parser.add_argument("--max-skipped", type=float, default=USUAL_SHARE, metavar="SHARE", help=text)
    add_decoding_arguments(parser)
    parser.add_argument("--output", required=True, metavar="FILE.safetensors", help="the file to write")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Caption the images, fit the confidence, and write the model."""
    from captioner.checkpoint import matrix_dtype
    from captioner.checkpoint.pretrained import DEFAULT, checkpoint_of
    from captioner.pipeline import Captioner
    from captioner.training import calibration
    from captioner.utils.files import refuse_unwritable

    files = [checkpoint_of(model, language=args.language) for model in args.model or [DEFAULT]]
    check_output(args.output, *args.data, *map(str, files))
    refuse_unwritable(args.output)
    options = decoding_options(args)
    set_pixel_limit(args)
    others = _pictures(Path(args.nonphotos))
    sources = [_read(args, Path(file)) for file in args.data]
    loaded = load_model(args)
    if not isinstance(loaded, Captioner):
        raise CaptionerError(
            "an ONNX file cannot be changed; calibrate the checkpoint that it was made of, and export that"
        )
    model = calibration.with_confidence(loaded)
    captions: list[str] = []
    references: list[Sequence[str]] = []
    evidence: list[Evidence] = []
    for skipped, records in sources:
        read = 0
        for record, result in zip(
            records, _examine(model, [each.image for each in records], options, args), strict=True
        ):
            if isinstance(result, CaptionerError):
                skipped.image("unreadable", record.image.name, result)
                continue
            captions.append(result[0].text)
            references.append(record.captions)
            evidence.append(result[1])
            read += 1
        skipped.refuse_too_many(read, sum(len(record.captions) for record in records))
        skipped.report()
    nothing = []
    for result in _examine(model, others, options, args):
        if isinstance(result, CaptionerError):
            raise result
        nothing.append(result[1])
    confidence = model.model.confidence
    assert confidence is not None
    report = calibration.calibrate(confidence, calibration.judge(captions, references, evidence), nothing)
    model.card = {**model.card, "confidence": calibration.describe(report, len(captions), len(nothing))}
    model.save(args.output, matrix_dtype(files[0]))
    if args.json:
        counts = {"photographs": len(captions), "nonphotos": len(nothing)}
        print(json.dumps({"output": args.output, **counts, **report._asdict()}))
        return 0
    print(
        f"{len(captions)} photographs, {len(nothing)} pictures that are none; five-fold cross-validation\n"
        f"calibration error {report.error:.4f} (by chance {report.by_chance:.4f})\n"
        f"confidence {report.threshold:.4f} keeps 80 % of the photographs and {report.passed:.1%} of the others; "
        f"right captions: {report.right:.1%} of all, {report.kept_right:.1%} of those kept\n"
        f"{printable(args.output)}"
    )
    return 0


def _pictures(folder: Path) -> list[Path]:
    """Find the images that are no photographs."""
    from captioner.data.folders import find_images

    if not folder.is_dir():
        raise CaptionerError(f"{folder}: is not a folder; give one with images that are no photographs")
    return list(find_images(folder))


def _read(args: argparse.Namespace, file: Path) -> tuple[Skipped, list[Record]]:
    """Read the photographs of a file's split."""
    from captioner.data.caption_files import read_records
    from captioner.data.drawn import read_drawn

    skipped = Skipped(file, args.max_skipped)
    images = Path(args.images) if args.images else None
    if args.val_share is not None:
        drawn = args.split, args.val_share, args.val_seed
        return skipped, read_drawn(file, images, None, args.images_anywhere, *drawn, args.max_skipped)
    records = read_records(file, images, anywhere=args.images_anywhere, wanted=(args.split,), skipped=skipped)
    skipped.refuse_too_many(len(records), sum(len(record.captions) for record in records))
    if not records:
        raise CaptionerError(f"{file}: no image is in split {args.split!r}; choose another --split")
    return skipped, records


def _examine(
    model: Captioner, images: Sequence[Path], options: DecodingOptions, args: argparse.Namespace
) -> Iterator[tuple[Caption, Evidence] | CaptionerError]:
    """Caption images, with the inputs of their confidence."""
    from rich.progress import track

    results = model.stream_with_evidence(images, options, args.batch_size)
    for result in track(results, "Captioning", total=len(images), disable=not sys.stderr.isatty()):
        if isinstance(result, CaptionerError):
            yield result
        else:
            caption, evidence = result
            assert evidence is not None
            yield caption, evidence
