"""``captioner evaluate``: caption a data set, and score captions and attention."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.cli.options import (
    add_decoding_arguments,
    add_drawn_arguments,
    add_model_arguments,
    check_ending,
    check_output,
    decoding_options,
    load_model,
    set_pixel_limit,
)
from captioner.cli.score_report import (
    UNSPACED_CURE,
    add_java_arguments,
    add_tokenizer_arguments,
    describe,
    describe_confidence,
    describe_naming,
    print_confidence,
    print_naming,
    print_report,
    refuse_without_java,
    score_with_java,
    tokenization_of,
)
from captioner.data.skip_report import USUAL_SHARE, Skipped
from captioner.errors import CaptionerError

if TYPE_CHECKING:
    from captioner.caption import Caption
    from captioner.captioning import BaseCaptioner
    from captioner.data.records import Record
    from captioner.decoding import DecodingOptions
    from captioner.metrics import Evaluation
    from captioner.metrics.grounding import Grounding, Scene
    from captioner.metrics.naming import Naming
    from captioner.text.tokenization import Tokenization

SUMMARY = "caption a split of a data set, score the captions and measure the attention"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_model_arguments(parser)
    parser.add_argument("--data", metavar="FILE", help="captions of any format that train reads, or a folder with them")
    parser.add_argument("--images", metavar="DIR", help="folder of the images (default: beside the captions or boxes)")
    parser.add_argument("--images-anywhere", action="store_true", help="let the files name images outside their folder")
    parser.add_argument("--splits", metavar="DIR", help="folder of files that list the images of each split")
    parser.add_argument(
        "--split",
        choices=("train", "val", "test"),
        help="(default: test; with --val-share, val)",
    )
    add_drawn_arguments(parser)
    text = "each image's prompt is that of the column or field prompt beside its captions; what follows it is scored"
    parser.add_argument("--prompts", action="store_true", help=text)
    parser.add_argument(
        "--grounding",
        metavar="BOXES.json",
        help="COCO object boxes: does attention find what is named? Without --data, all images of that file are used",
    )
    parser.add_argument(
        "--grounding-words",
        default="generated",
        choices=("generated", "reference"),
        help="whose words are looked up: the model's, or those of the captions in --data (default: generated)",
    )
    text = "which of COCO's 80 things captions name: hallucinated ones (CHAIR), recall, precision; boxes by --grounding"
    parser.add_argument("--naming", action="store_true", help=text)
    text = "is the model as sure as it is right? Calibration, and hallucination among the surest captions"
    parser.add_argument("--confidence", action="store_true", help=text)
    text = "folder of pictures that are no photographs: how many are as sure as photographs are (with --confidence)?"
    parser.add_argument("--nonphotos", metavar="DIR", help=text)
    text = "share of images, or of captions, that may be unusable and are skipped; more are an error (default: 0.01)"
    parser.add_argument("--max-skipped", type=float, default=USUAL_SHARE, metavar="SHARE", help=text)
    add_decoding_arguments(parser)
    add_tokenizer_arguments(parser)
    add_java_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--output", metavar="FILE.json", help="also write the captions as a COCO result file")


def run(args: argparse.Namespace) -> int:
    """Caption every image once; print COCO's corpus scores and the result of the pointing game."""
    from captioner.metrics.grounding import NO_ATTENTION, read_boxes
    from captioner.utils.files import refuse_unwritable

    _check(args)
    check_output(args.output, args.data, args.grounding, *(args.model or ()))
    check_ending(args.output, ".json")
    tokenization = tokenization_of(args)
    refuse_without_java(args)
    if args.output:
        refuse_unwritable(args.output)
    options = decoding_options(args)
    set_pixel_limit(args)
    scenes = read_boxes(Path(args.grounding)) if args.grounding else {}
    skipped = Skipped(Path(args.data or args.grounding), args.max_skipped)
    records = _records(args, scenes, skipped, tokenization)
    placed = _placed(args, records, scenes)
    model = load_model(args)
    if args.confidence and not model.tells_confidence:
        raise CaptionerError("--confidence needs a model with a confidence; make one with captioner calibrate")
    if args.grounding and not model.shows_attention:
        raise CaptionerError(NO_ATTENTION)
    pairs = list(_generate(model, records, options, args.batch_size, skipped))
    skipped.refuse_too_many(len(pairs), sum(len(record.captions) for record, _ in pairs))
    skipped.report()
    if not pairs:
        raise CaptionerError(f"{skipped.source}: no image of it can be read; nothing is scored")
    records, captions = [record for record, _ in pairs], [caption for _, caption in pairs]
    results: dict[str, Any] = {"images": len(records), "skipped": skipped.images}
    grounding = None
    if args.data:
        texts = [caption.continuation if args.prompts else caption.text for caption in captions]
        evaluation = _score(records, texts, args.output, tokenization)
        more = {name: whole for name, (whole, _) in score_with_java(evaluation, args).items()}
        results |= {"split": args.split, **describe(evaluation), **more}
        naming = _name(records, captions, placed) if args.naming or args.confidence else None
        if naming and args.naming:
            results["naming"] = describe_naming(naming)
        if naming and args.confidence:
            others = _others(model, args.nonphotos, options, args.batch_size) if args.nonphotos else []
            results["confidence"] = describe_confidence(_sure(captions), naming, _sure(others))
    if args.grounding:
        grounding = _ground(model, records, captions, placed, args.grounding_words)
        results["grounding"] = {"words": args.grounding_words, **_describe(grounding)}
    if args.json:
        print(json.dumps(results))
        return 0
    if args.data:
        method = f"sampled with seed {options.seed}" if options.sample else f"beam {options.beam_size}"
        print_report(f"split {args.split}, {method}", results)
        if args.naming:
            print_naming(results["naming"])
        if args.confidence:
            print_confidence(results["confidence"])
    if grounding:
        _print(grounding, args.grounding_words)
    return 0


def _check(args: argparse.Namespace) -> None:
    args.split = args.split or ("test" if args.val_share is None else "val")
    if args.data is None and args.grounding is None:
        raise CaptionerError("there is nothing to evaluate; give captions with --data, boxes with --grounding, or both")
    if args.data is None:
        for option, given in (
            ("--grounding-words reference", args.grounding_words == "reference"),
            ("--output", args.output),
            ("--val-share", args.val_share is not None),
            ("--prompts", args.prompts),
            ("--tokenizer", args.tokenizer != "ptb"),
            ("--lowercase", args.lowercase),
            ("--naming", args.naming),
            ("--confidence", args.confidence),
            ("--meteor", args.meteor),
            ("--spice", args.spice),
        ):
            if given:
                raise CaptionerError(f"{option} needs captions and image ids; give them with --data")
    for option, given in (
        ("--prompt", getattr(args, "prompt", None)),
        ("--grounding", args.grounding),
        ("--naming", args.naming),
        ("--confidence", args.confidence),
    ):
        if args.prompts and given:
            raise CaptionerError(f"--prompts and {option} exclude each other; leave out one of the two")
    if args.nonphotos and not args.confidence:
        raise CaptionerError("--nonphotos needs --confidence: it tells how sure the model is of pictures that are none")
    if args.nonphotos and not Path(args.nonphotos).is_dir():
        raise CaptionerError(
            f"--nonphotos {args.nonphotos}: is not a folder; give one with images that are no photographs"
        )


def _records(
    args: argparse.Namespace, scenes: dict[str, Scene], skipped: Skipped, tokenization: Tokenization
) -> list[Record]:
    """The images to caption: those of a split, or without --data those with boxes."""
    from captioner.data.caption_files import read_records
    from captioner.data.drawn import read_drawn
    from captioner.data.paths import refuse_links_out, resolve_path
    from captioner.data.records import Record, refuse_without_prompts
    from captioner.data.unspaced import tell_unspaced

    folder, splits = (Path(p) if p else None for p in (args.images, args.splits))
    if args.data is None:
        boxes = Path(args.grounding)
        found = {name: resolve_path(Path(name), boxes, folder, args.images_anywhere) for name in scenes}
        if not args.images_anywhere:
            refuse_links_out(found.values(), boxes, folder)
        return [Record(file, (), args.split, name) for name, file in found.items()]
    data, anywhere = Path(args.data), args.images_anywhere
    if args.val_share is not None:
        drawn = args.val_share, args.val_seed, args.max_skipped, args.prompts
        return read_drawn(data, folder, splits, anywhere, args.split, *drawn)
    wanted = (args.split,)
    records = read_records(
        data, folder, splits, anywhere=anywhere, wanted=wanted, skipped=skipped, prompts=args.prompts
    )
    skipped.refuse_too_many(len(records), sum(len(record.captions) for record in records))
    if tokenization.needs_spaces:
        tell_unspaced((caption for record in records for caption in record.captions), args.data, UNSPACED_CURE)
    if args.prompts and records:
        refuse_without_prompts(records, args.data, "leave out --prompts")
    if not records:
        raise CaptionerError(
            f"{args.data}: no image is in split {args.split!r}; choose another --split (without one in the file, it "
            "is the one in the file's name, else train), name a folder of split files with --splits, or have the "
            "images that training drew by --val-share"
        )
    return records


def _placed(args: argparse.Namespace, records: Sequence[Record], scenes: dict[str, Scene]) -> dict[Path, Scene]:
    """Read the boxes by image; caption and box files may spell paths to the same image differently."""
    if args.data is None:
        return {record.image: scenes[str(record.image_id)] for record in records}
    by_name: dict[str, Scene] = {}
    for path, scene in scenes.items():
        name = Path(path).name
        if name in by_name:
            raise CaptionerError(f"{args.grounding}: has two images named {name!r}; measure them without --data")
        by_name[name] = scene
    placed = {record.image: by_name[record.image.name] for record in records if record.image.name in by_name}
    if scenes and not placed:
        raise CaptionerError(f"{args.grounding}: has boxes of no image of {args.data}; give boxes of its images")
    return placed


def _generate(
    model: BaseCaptioner, records: Sequence[Record], options: DecodingOptions, batch_size: int, skipped: Skipped
) -> Iterator[tuple[Record, Caption]]:
    """Caption every record's image, which continues its prompt if it has one, skipping unreadable ones."""
    from captioner.utils.counter import counted

    of_prompts: dict[str, list[Record]] = {}
    for record in records:
        of_prompts.setdefault(record.prompt, []).append(record)
    ordered = list(chain(*of_prompts.values()))

    def caption_all() -> Iterator[Caption | CaptionerError]:
        for prompt, part in of_prompts.items():
            ids = model.vocabulary.encode(prompt)[1:-1]  # as in training, words that the model lacks are UNKNOWN
            given = replace(options, prompt=tuple(ids), max_words=options.max_words + len(ids))
            yield from model.stream((record.image for record in part), given if prompt else options, batch_size)

    for record, result in zip(ordered, counted(caption_all(), "Captioning", len(ordered)), strict=True):
        if isinstance(result, CaptionerError):
            skipped.image("unreadable", record.image.name, result)
        else:
            yield record, result


def _score(
    records: Sequence[Record], texts: Sequence[str], output: str | None, tokenization: Tokenization
) -> Evaluation[int | str]:
    from captioner import metrics
    from captioner.utils.files import replacing

    if output:
        rows = [{"image_id": record.image_id, "caption": text} for record, text in zip(records, texts, strict=True)]
        with replacing(output) as path:
            path.write_text(json.dumps(rows))
    # An image has a caption for each of its prompts.
    ids = [f"{record.image_id} {record.prompt}" if record.prompt else record.image_id for record in records]
    references = {id_: record.captions for id_, record in zip(ids, records, strict=True)}
    return metrics.evaluate(dict(zip(ids, texts, strict=True)), references, tokenization)


def _ground(
    model: BaseCaptioner, records: Sequence[Record], captions: Sequence[Caption], scenes: dict[Path, Scene], words: str
) -> Grounding:
    from captioner.metrics.grounding import measure

    def pairs() -> Iterator[tuple[Caption, Scene]]:
        for record, caption in zip(records, captions, strict=True):
            scene = scenes.get(record.image)
            if scene is None:
                continue
            read = [caption] if words == "generated" else model.score(record.image, record.captions)
            yield from ((each, scene) for each in read)

    return measure(pairs())


def _name(records: Sequence[Record], captions: Sequence[Caption], scenes: dict[Path, Scene]) -> Naming:
    from captioner.metrics.naming import measure_naming

    pairs = list(zip(records, captions, strict=True))
    return measure_naming(
        {record.image_id: caption.text for record, caption in pairs},
        {record.image_id: record.captions for record in records},
        {record.image_id: scenes[record.image].boxes for record in records if record.image in scenes},
    )


def _others(model: BaseCaptioner, folder: str, options: DecodingOptions, batch_size: int) -> list[Caption]:
    """Caption images that are no photographs."""
    from captioner.data.folders import find_images

    captions = []
    for result in model.stream(find_images(folder), options, batch_size):
        if isinstance(result, CaptionerError):
            raise result
        captions.append(result)
    return captions


def _sure(captions: Sequence[Caption]) -> list[float]:
    """The confidence of each caption of a calibrated model."""
    return [caption.confidence for caption in captions if caption.confidence is not None]


def _describe(grounding: Grounding) -> dict[str, float | None]:
    """Build the JSON object; a share of no trials is null."""
    shares = {
        "pointing": grounding.pointing,
        "pointing_centre": grounding.center,
        "pointing_random": grounding.random,
        "mass": grounding.mass,
        "mass_even": grounding.random,
    }
    return {
        "images": grounding.images,
        "trials": grounding.trials,
        "hits": grounding.hits,
        **{name: share if grounding.trials else None for name, share in shares.items()},
        "absent": grounding.absent,
    }


def _print(grounding: Grounding, words: str) -> None:
    """Format the same as text."""
    print(
        f"{grounding.images} images with boxes, {grounding.trials} {words} words that name a thing in a box "
        f"({grounding.absent} more name what has no box)"
    )
    if not grounding.trials:
        return
    print(
        f"peak of attention in a box: {grounding.hits} of {grounding.trials}, {grounding.pointing:.4f} "
        f"(image centre {grounding.center:.4f}, random point {grounding.random:.4f})"
    )
    print(f"attention within the boxes: {grounding.mass:.4f} (even attention {grounding.random:.4f})")
