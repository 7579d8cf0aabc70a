"""Trains on growing parts of a data set, and says what more photographs would give: a power law with its interval.

    python tools/experiments/learning_curve.py --data data/everyday/captions.jsonl --source coco coco40k \
        --sizes 2500 5000 10000 20000 40000 --predict 113000

The parts are nested, drawn with one seed, and trained by the same configuration, the small ones for more epochs, so
that none ends before it has learned what it can; the best epoch counts. Each is scored on the validation images of
the same sources (CIDEr, beam search as usual). The law is a - b n^(-c) (Hestness et al., "Deep Learning Scaling is
Predictable, Empirically", 2017, has it for losses), fitted by least squares; its interval comes from drawing the
validation images again, and does not hold the variation of training. Stopped at any moment, the same command goes on.
``curve.json`` in the output folder holds what was found.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captioner import load
from captioner.errors import CaptionerError
from captioner.metrics.bootstrap import bootstrap_weights, percentile_interval
from captioner.metrics.evaluation import evaluate
from captioner.training.checkpointing import LAST
from captioner.training.run import train
from captioner.utils.files import replacing

CONFIG = Path(__file__).parents[2] / "configs" / "everyday" / "learning_curve.yaml"
EXPONENTS = np.linspace(0.02, 2, 199)
SAMPLES = 1000
EPOCHS, IMAGES_SEEN = 5, 64_000
"""Epochs of large parts; small ones go on until so many photographs have been seen."""

Row = dict[str, object]


class Law(NamedTuple):
    """Scores a - b n^(-c) of a model that n photographs trained."""

    a: float
    b: float
    c: float

    def at(self, size: float) -> float:
        """The score."""
        return self.a - self.b * float(size**-self.c)


def fit(sizes: Sequence[int], scores: Sequence[float] | NDArray[np.float64]) -> Law:
    """Fits the law by least squares: for each exponent of a grid a and b have a closed form.

    Args:
        sizes: Numbers of photographs, at least three.
        scores: The score of each.

    Returns:
        The best law whose score does not fall with more photographs.
    """
    best, least = Law(float(np.mean(scores)), 0.0, float(EXPONENTS[0])), np.inf
    for c in EXPONENTS:
        design = np.stack([np.ones(len(sizes)), -(np.asarray(sizes, float) ** -c)], 1)
        (a, b), *_ = np.linalg.lstsq(design, np.asarray(scores), rcond=None)
        error = float(((design @ [a, b] - scores) ** 2).sum())
        if b >= 0 and error < least:
            best, least = Law(float(a), float(b), float(c)), error
    return best


def read_rows(path: Path, sources: Sequence[str]) -> dict[str, list[Row]]:
    """Reads the photographs of some sources with captions by people, by their split; paths become absolute.

    Raises:
        CaptionerError: There is no photograph of them for training, or none for validation.
    """
    rows: dict[str, list[Row]] = {"train": [], "val": []}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["split"] in rows and row["captions"] and row.get("human", True) and row.get("source") in sources:
            rows[row["split"]].append({**row, "image": str(path.parent.resolve() / row["image"])})
    for split, found in rows.items():
        if not found:
            raise CaptionerError(
                f"{path}: has no photograph of {' or '.join(sources)} in split {split}; see its first lines"
            )
    return rows


def train_part(folder: Path, rows: Sequence[Row], overrides: Sequence[str]) -> None:
    """Trains on photographs, or goes on with that."""
    captions = folder / "captions.jsonl"
    if not captions.exists():
        with replacing(captions) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    cache = ["--data.feature_cache", str(folder / "features.safetensors")]
    resume = ["--resume", str(folder / LAST)] if (folder / LAST).exists() else []
    root = ["--trainer.default_root_dir", str(folder), "--data.captions", str(captions)]
    size = sum(row["split"] == "train" for row in rows)
    epochs = ["--trainer.max_epochs", str(max(EPOCHS, math.ceil(IMAGES_SEEN / size)))]
    train(["--config", str(CONFIG), *epochs, *overrides, *root, *cache, *resume])
    (folder / "features.safetensors").unlink(missing_ok=True)


def caption_all(folder: Path, rows: Sequence[Row]) -> dict[str, str]:
    """Captions of photographs by the model that a run left."""
    images = [str(row["image"]) for row in rows]
    model = load(folder / "captioner.safetensors")
    return dict(zip(images, (caption.text for caption in model.caption(images)), strict=True))


def measure(sizes: Sequence[int], captions: Sequence[Mapping[str, str]], rows: Sequence[Row], target: int) -> Row:
    """Scores, the law, and what it says of a larger size."""
    references = {str(row["image"]): [str(each) for each in row["captions"]] for row in rows}  # type: ignore[attr-defined]
    evaluations = [evaluate(each, references) for each in captions]
    scores = np.stack([each.means["CIDEr"] for each in evaluations])
    weights = bootstrap_weights(len(rows), SAMPLES, seed=0) / len(rows)
    drawn = weights @ scores.T
    law = fit(sizes, scores.mean(1))
    predicted = np.array([fit(sizes, each).at(target) for each in drawn])
    return {
        "images": list(sizes),
        "CIDEr": scores.mean(1).tolist(),
        "intervals": [list(percentile_interval(each)) for each in drawn.T],
        "BLEU-4": [each.corpus()["BLEU-4"] for each in evaluations],
        "law": law._asdict(),
        "predicted": {"images": target, "CIDEr": law.at(target), "interval": list(percentile_interval(predicted))},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, scores, fits and writes."""
    parser = argparse.ArgumentParser(description="Train on growing parts of a data set, and fit a power law.")
    parser.add_argument("--data", type=Path, required=True, help="caption file of tools/data/prepare_everyday.py")
    parser.add_argument("--source", nargs="+", required=True, help="of these photographs")
    parser.add_argument(
        "--sizes", type=int, nargs="+", required=True, metavar="N", help="photographs: three sizes or more"
    )
    parser.add_argument("--predict", type=int, default=113_000, metavar="N", help="photographs of COCO's training part")
    parser.add_argument("--output", type=Path, default=Path("runs/learning_curve"), metavar="DIR")
    parser.add_argument("--seed", type=int, default=1, help="of the parts and of training (default: 1)")
    args, overrides = parser.parse_known_args(arguments)
    try:
        rows = read_rows(args.data, args.source)
        if len(args.sizes) < 3 or max(args.sizes) > len(rows["train"]):
            raise CaptionerError(f"--sizes {args.sizes}: give three or more, at most {len(rows['train'])}")
        random.Random(args.seed).shuffle(rows["train"])
        captions = []
        for size in args.sizes:
            folder = args.output / f"{size}-seed-{args.seed}"
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "captioner.safetensors").exists():
                seed = ["--seed_everything", str(args.seed)]
                train_part(folder, [*rows["train"][:size], *rows["val"]], [*overrides, *seed])
            captions.append(caption_all(folder, rows["val"]))
            gc.collect()
        found = measure(args.sizes, captions, rows["val"], args.predict)
        with replacing(args.output / "curve.json") as temporary:
            temporary.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        print(json.dumps(found, indent=2))
    except CaptionerError as error:
        print(f"learning_curve: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
