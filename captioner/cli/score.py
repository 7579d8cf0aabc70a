"""``captioner score``: COCO-format files in, scores out; no model, no torch."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from captioner.errors import CaptionerError

SUMMARY = "score a COCO result file against COCO annotations"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("--references", required=True, metavar="REFS.json", help="COCO caption annotations")
    parser.add_argument("--candidates", required=True, metavar="RESULTS.json", help='[{"image_id", "caption"}, …]')
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Scores one result file."""
    from captioner.metrics import score

    candidates: dict[int | str, str] = {}
    for image, caption in _captions(args.candidates, _read(args.candidates)):
        if image in candidates:
            raise CaptionerError(f"{args.candidates}: image {image!r} has two captions; keep one")
        candidates[image] = caption
    annotations = _read(args.references)
    if not isinstance(annotations, dict) or "annotations" not in annotations:
        raise CaptionerError(f"{args.references}: has no annotations; give a COCO caption annotation file")
    references: dict[int | str, list[str]] = {}
    for image, caption in _captions(args.references, annotations["annotations"]):
        references.setdefault(image, []).append(caption)
    scores = score(candidates, references)
    if args.json:
        print(json.dumps({"images": len(candidates), **scores}))
    else:
        print(f"{len(candidates)} images, PTB tokens")
        print_scores(scores)
    return 0


def print_scores(scores: dict[str, float]) -> None:
    """A table for people."""
    for name, value in scores.items():
        print(f"{name:<8} {value:7.4f}")


def _read(file: str) -> Any:  # noqa: ANN401 (whatever JSON holds)
    try:
        return json.loads(Path(file).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CaptionerError(f"{file}: cannot be read: {error.strerror}; check the path") from error
    except ValueError as error:
        raise CaptionerError(f"{file}: is not JSON ({error}); give COCO's format") from error


def _captions(file: str, entries: Any) -> list[tuple[int | str, str]]:  # noqa: ANN401 (whatever JSON holds)
    if not isinstance(entries, list):
        raise CaptionerError(f"{file}: holds no list of captions; give COCO's format")
    pairs = []
    for number, entry in enumerate(entries):
        image = entry.get("image_id") if isinstance(entry, dict) else None
        caption = entry.get("caption") if isinstance(entry, dict) else None
        if not isinstance(image, (int, str)) or not isinstance(caption, str):
            raise CaptionerError(f"{file}: entry {number} has no image_id with a caption; give COCO's format")
        pairs.append((image, " ".join(caption.split())))
    return pairs
