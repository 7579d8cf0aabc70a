"""``captioner score``: score caption files, without a model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.cli.options import check_ending, check_output
from captioner.cli.score_report import (
    UNSPACED_CURE,
    add_java_arguments,
    add_tokenizer_arguments,
    describe,
    describe_naming,
    print_naming,
    print_report,
    refuse_without_java,
    score_with_java,
    tokenization_of,
)
from captioner.errors import CaptionerError
from captioner.utils.console import print_status, printable

if TYPE_CHECKING:
    from captioner.metrics import Evaluation
    from captioner.metrics.bootstrap import Difference
    from captioner.metrics.coco_files import References
    from captioner.text.tokenization import Tokenization

SUMMARY = "score files of captions against references"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("--references", required=True, metavar="FILE", help="captions, of any format that train reads")
    parser.add_argument(
        "--candidates",
        required=True,
        nargs="+",
        metavar="FILE",
        help="one caption an image: COCO results, what caption or evaluate --output wrote, CSV; two files are compared",
    )
    parser.add_argument(
        "--split",
        choices=("train", "val", "test"),
        help="images to score (default: the captions' split, or all)",
    )
    parser.add_argument("--splits", metavar="DIR", help="folder of files that list the images of each split")
    parser.add_argument("--subset", action="store_true", help="score the images that have a caption, not all of them")
    text = "which of COCO's 80 things captions name: hallucinated ones (CHAIR), recall, precision"
    parser.add_argument("--naming", action="store_true", help=text)
    add_tokenizer_arguments(parser)
    add_java_arguments(parser)
    parser.add_argument(
        "--training", metavar="FILE", help="training captions, as captioner train reads them, to identify novel ones"
    )
    parser.add_argument("--per-image", metavar="FILE.jsonl", help="also write each image's tokens and scores")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Score one result file, or compare two."""
    from captioner.data.unspaced import tell_unspaced
    from captioner.metrics.bootstrap import compare
    from captioner.metrics.coco_files import read_references
    from captioner.metrics.naming import measure_naming
    from captioner.utils.files import refuse_unwritable

    if len(args.candidates) > 2:
        raise CaptionerError(f"--candidates names {len(args.candidates)} files; give one, or two to compare")
    if args.per_image and len(args.candidates) > 1:
        raise CaptionerError("--per-image takes the scores of one file; give --candidates one file")
    check_output(args.per_image, args.references, *args.candidates, args.training)
    check_ending(args.per_image, ".jsonl", ".ndjson")
    tokenization = tokenization_of(args)
    refuse_without_java(args)
    if args.per_image:
        refuse_unwritable(args.per_image)
    references = read_references(Path(args.references), args.split, Path(args.splits) if args.splits else None)
    if tokenization.needs_spaces:
        texts = (caption for captions in references.captions.values() for caption in captions)
        tell_unspaced(texts, args.references, UNSPACED_CURE)
    training = _training(args.training, tokenization) if args.training else None
    pairs = [_evaluate(Path(file), references, args.subset, tokenization) for file in args.candidates]
    captions, scored = [candidates for candidates, _ in pairs], [evaluation for _, evaluation in pairs]
    if len({each.images for each in scored}) > 1:
        one, two = (set(each.images) for each in scored)
        raise CaptionerError(
            f"--candidates {' and '.join(args.candidates)} have captions of other images, such as "
            f"{min(one ^ two, key=str)!r}; give both the same ones to compare them"
        )
    others = [score_with_java(each, args) for each in scored]
    if args.per_image:
        _write_per_image(Path(args.per_image), scored[0], {name: values for name, (_, values) in others[0].items()})
    reports = [
        {"candidates": file, **describe(each, training), **{name: whole for name, (whole, _) in more.items()}}
        for file, each, more in zip(args.candidates, scored, others, strict=True)
    ]
    if args.naming:
        for report, candidates, each in zip(reports, captions, scored, strict=True):
            report["naming"] = describe_naming(
                measure_naming(candidates, {image: references.captions[image] for image in each.images})
            )
    differences = compare(scored[0], scored[1]) if len(scored) == 2 else {}
    if args.json:
        print(json.dumps(_as_object(reports, differences)))
        return 0
    for report in reports:
        print_report(report["candidates"], report)
        if args.naming:
            print_naming(report["naming"])
    if differences:
        _print_differences(args.candidates, differences)
    return 0


def _evaluate(
    file: Path, references: References, subset: bool, tokenization: Tokenization
) -> tuple[dict[int | str, str], Evaluation[int | str]]:
    """Read and score a result file."""
    from captioner.metrics import evaluate
    from captioner.metrics.coco_files import align, read_results

    results = read_results(file)
    candidates, wanted = align(results, references, subset, file)
    if len(wanted) < len(references.captions):
        parts = {references.splits[image] for image in wanted}
        of_split = len(parts) == 1 and len(references.of_split(min(parts)).captions) == len(wanted)
        part = f"scored on {len(wanted)} of {len(references.captions)} images"
        part += f", those of split {min(parts)}" if of_split else ""
        print_status(f"captioner: {printable(str(file))}: {part}")
    return candidates, evaluate(candidates, wanted, tokenization)


def _training(file: str, tokenization: Tokenization) -> set[str]:
    from captioner.data.formats import parse

    captions = [text for record in parse(Path(file), None, None) if record.split == "train" for text in record.captions]
    if not captions:
        raise CaptionerError(f"{file}: has no training captions; give the file that the model was trained on")
    return {" ".join(tokens) for tokens in tokenization(captions)}


def _as_object(reports: list[dict[str, Any]], differences: Mapping[str, Difference]) -> dict[str, Any]:
    if not differences:
        return {name: value for name, value in reports[0].items() if name != "candidates"}
    return {"candidates": reports, "differences": {name: each._asdict() for name, each in differences.items()}}


def _print_differences(files: list[str], differences: Mapping[str, Difference]) -> None:
    print(f"{printable(files[1])} minus {printable(files[0])}, paired bootstrap")
    for name, (difference, interval, p_value) in differences.items():
        print(f"{name:<8} {difference:+7.4f}   95 % {interval.low:+.4f} to {interval.high:+.4f}   p = {p_value:.3f}")


def _write_per_image(path: Path, evaluation: Evaluation[int | str], others: Mapping[str, list[float]]) -> None:
    from captioner.utils.files import replacing

    rows = zip(evaluation.per_image().items(), evaluation.hypotheses, strict=True)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for number, ((image, scores), tokens) in enumerate(rows):
            more = {name: values[number] for name, values in others.items()}
            line = {"image_id": image, "tokens": tokens, **scores, **more}
            file.write(json.dumps(line) + "\n")
