"""Writes a data set of generated pictures, on which a captioner shows that it learns to see.

Each picture holds a large and a small shape of different form and colour, side by side or one above the other, and has
one caption, which begins with the large one: "a red circle left of a blue square". Were either allowed to come first, a
perfect model would have to look at both until it has said the first word. As it is, a perfect model has a BLEU-4 of 1
and always one place to look at. No pair of coloured shapes of one split occurs in another: validation and test ask for
combinations that were never seen.

    python tools/data/make_shapes.py data/shapes --pictures 1200 --seed 1

The folder then holds ``images/``, ``captions.jsonl`` and ``boxes.json``: where each shape is, which tells whether the
attention of a word falls on what the word names. Mirroring a picture makes its captions wrong: train without flips.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from captioner.data.records import SPLITS, Record, write_jsonl
from captioner.errors import CaptionerError
from captioner.utils.files import replacing

COLORS = {
    "red": (214, 32, 38),
    "green": (38, 150, 60),
    "blue": (36, 72, 206),
    "yellow": (246, 218, 34),
    "purple": (132, 42, 158),
    "orange": (244, 130, 20),
}
"""Each colour word with its RGB value."""

OUTLINES = {
    "circle": None,
    "square": ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)),
    "triangle": ((0.5, 0.0), (1.0, 1.0), (0.0, 1.0)),
    "cross": tuple(
        (x / 3, y / 3)
        for x, y in ((1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (2, 2), (2, 3), (1, 3), (1, 2), (0, 2), (0, 1), (1, 1))
    ),
}
"""Each shape word with its corners in a box of side 1; the circle fills its box."""

RELATIONS = ("left of", "above", "right of", "below")
"""How the first shape can stand to the second; neighbours lie on different axes."""

SHARE = {"train": 0.8, "val": 0.1, "test": 0.1}
"""The part of the pictures that each split gets, and the part of the combinations."""

SIDES = ((0.36, 0.44), (0.22, 0.30))
"""Least and greatest side of the large and of the small shape, in picture sides."""

GAP = 0.06
"""Least distance between the two shapes along their relation, in picture sides."""

DRIFT = 0.05
"""How far a centre may lie off the common line, in picture sides: too little to call it "above"."""

COLOR_JITTER = 10
"""Each channel of a colour varies by at most this much, in steps of 255."""

NOISE = 6.0
"""Standard deviation of a noisy background, in steps of 255; every second picture has one, on average."""

SMOOTHING = 4
"""Shapes are drawn this many times larger and shrunk, for smooth edges."""

SMALLEST = 32
"""Side in pixels below which forms cannot be told apart."""

FEWEST = 10
"""Pictures below which a split would be empty."""

FORMATS = {"jpg": "JPEG", "png": "PNG"}
"""File suffix and Pillow's name of the format."""

Kind = tuple[str, str]
"""A colour word and a shape word."""


@dataclass(frozen=True)
class Shape:
    """One coloured shape and where it is.

    Attributes:
        color: A key of ``COLORS``.
        shape: A key of ``OUTLINES``.
        box: x, y of the top left corner, width, height; in pixels.
    """

    color: str
    shape: str
    box: tuple[int, int, int, int]

    @property
    def phrase(self) -> str:
        """The shape in words, such as "an orange circle"."""
        return f"{'an' if self.color[0] in 'aeiou' else 'a'} {self.color} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """Two shapes; the first, the larger one, stands in ``relation`` to the second."""

    first: Shape
    second: Shape
    relation: str

    @property
    def caption(self) -> str:
        """All that is to be said about the scene."""
        return f"{self.first.phrase} {self.relation} {self.second.phrase}"


def combinations(randomness: random.Random) -> dict[str, list[tuple[Kind, Kind]]]:
    """Deals all pairs of coloured shapes to the splits; no pair occurs twice, in either order.

    The two of a pair differ in colour and in form, so that every colour or shape word of a caption names one box.
    """
    kinds = itertools.product(COLORS, OUTLINES)
    pairs = [pair for pair in itertools.combinations(kinds, 2) if pair[0][0] != pair[1][0] and pair[0][1] != pair[1][1]]
    randomness.shuffle(pairs)
    dealt = {}
    for split, count in counts(len(pairs)).items():
        dealt[split], pairs = pairs[:count], pairs[count:]
    return dealt


def counts(total: int) -> dict[str, int]:
    """Divides ``total`` pictures or combinations by ``SHARE``; training gets what rounding leaves."""
    count = {split: round(SHARE[split] * total) for split in ("val", "test")}
    return {"train": total - sum(count.values()), **count}


def arrange(pair: tuple[Kind, Kind], relation: str, size: int, randomness: random.Random) -> Scene:
    """Places two coloured shapes at random, such that only ``relation`` can be said of the first.

    Args:
        pair: The large shape and the small one.
        relation: One of ``RELATIONS``: how the first stands to the second.
        size: The picture's side in pixels.
        randomness: Where the chance comes from.
    """
    sides = [round(randomness.uniform(*bounds) * size) for bounds in SIDES]
    # Along the relation's axis: margin, one shape, gap and slack, the other shape, margin.
    free = size * (1 - GAP) - sum(sides)
    margin, end = sorted(randomness.uniform(0, free) for _ in pair)
    leads = relation in ("left of", "above")
    near, far = margin, end + size * GAP + sides[0 if leads else 1]
    along = (near, far) if leads else (far, near)
    room = max(sides) / 2 + DRIFT * size
    line = randomness.uniform(room, size - room)
    across = [line + randomness.uniform(-DRIFT, DRIFT) * size - side / 2 for side in sides]
    shapes = []
    for (color, shape), side, a, c in zip(pair, sides, along, across, strict=True):
        # Cut, not rounded, along the axis: rounding up could push a shape out of the picture.
        x, y = (int(a), int(c)) if relation in ("left of", "right of") else (int(c), int(a))
        shapes.append(Shape(color, shape, (x, y, side, side)))
    return Scene(shapes[0], shapes[1], relation)


def draw(shapes: Sequence[Shape], size: int, randomness: random.Random) -> Image.Image:
    """Draws shapes on a plain or lightly noisy grey; tints and noise come from ``randomness``.

    Returns:
        An RGB picture, ``size`` pixels on each side.
    """
    gray = randomness.randint(150, 255)
    picture = Image.new("RGB", (size, size), tuple(_tint((gray, gray, gray), randomness)))
    if randomness.random() < 0.5:
        noise = np.random.default_rng(randomness.getrandbits(32)).normal(0, NOISE, (size, size, 3))
        picture = Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))
    for shape in shapes:
        x, y, width, height = shape.box
        picture.paste(
            tuple(_tint(COLORS[shape.color], randomness)),
            (x, y, x + width, y + height),
            _mask(shape.shape, width, height),
        )
    return picture


def _tint(color: tuple[int, int, int], randomness: random.Random) -> list[int]:
    return [min(255, max(0, part + randomness.randint(-COLOR_JITTER, COLOR_JITTER))) for part in color]


def _mask(shape: str, width: int, height: int) -> Image.Image:
    large = (width * SMOOTHING, height * SMOOTHING)
    mask = Image.new("L", large)
    corners = OUTLINES[shape]
    if corners is None:
        ImageDraw.Draw(mask).ellipse((0, 0, large[0] - 1, large[1] - 1), fill=255)
    else:
        ImageDraw.Draw(mask).polygon([(x * (large[0] - 1), y * (large[1] - 1)) for x, y in corners], fill=255)
    return mask.resize((width, height), Image.Resampling.BOX)


def write_shapes(
    folder: Path, pictures: int = 1200, seed: int = 1, size: int = 224, suffix: str = "jpg"
) -> list[Record]:
    """Writes the data set: ``images/``, ``boxes.json``, and last ``captions.jsonl``.

    ``boxes.json`` is ``{"size": pixels, "images": {path as in captions.jsonl: [{"colour", "shape", "box": [x, y, width,
    height]}, …]}}``, boxes in pixels, the shape that the caption names first before the other.

    Args:
        folder: Where to write; made where it is missing.
        pictures: How many, over all splits.
        seed: The same seed gives the same pictures, captions and boxes.
        size: Side of a picture in pixels.
        suffix: ``jpg`` or ``png``.

    Returns:
        The records of ``captions.jsonl``.

    Raises:
        CaptionerError: Too few or too small pictures, or a folder that cannot be written to.
    """
    if pictures < FEWEST:
        raise CaptionerError(f"pictures is {pictures}: give at least {FEWEST}, so that no split is empty")
    if size < SMALLEST:
        raise CaptionerError(f"size is {size} pixels: give at least {SMALLEST}, so that forms can be told apart")
    randomness = random.Random(seed)
    pairs = combinations(randomness)
    records: list[Record] = []
    boxes: dict[str, list[dict[str, object]]] = {}
    for split in SPLITS:
        for number in range(counts(pictures)[split]):
            # All pairs and relations in turn, so that even a small set shows every word; one relation further each
            # round, so that no pair keeps to one axis.
            turn, place = divmod(number, len(pairs[split]))
            first, second = pairs[split][place]
            pair = (first, second) if randomness.random() < 0.5 else (second, first)
            scene = arrange(pair, RELATIONS[(number + turn) % len(RELATIONS)], size, randomness)
            name = f"images/{len(records):05d}.{suffix}"
            with replacing(folder / name) as temporary:
                draw((scene.first, scene.second), size, randomness).save(temporary, format=FORMATS[suffix], quality=92)
            records.append(Record(folder / name, (scene.caption,), split, name))
            boxes[name] = [
                {"colour": shape.color, "shape": shape.shape, "box": shape.box} for shape in (scene.first, scene.second)
            ]
    with replacing(folder / "boxes.json") as temporary:
        temporary.write_text(json.dumps({"size": size, "images": boxes}) + "\n", encoding="utf-8")
    # Last, so that a folder with captions.jsonl is a whole data set.
    write_jsonl(records, folder / "captions.jsonl")
    return records


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns 0, or 2 for wrong use."""
    parser = argparse.ArgumentParser(description="Write a data set of generated pictures of coloured shapes.")
    parser.add_argument("folder", type=Path, help="where to write, such as data/shapes")
    parser.add_argument("--pictures", type=int, default=1200, help="how many, over all splits (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same set (default: %(default)s)")
    parser.add_argument("--size", type=int, default=224, help="side in pixels (default: %(default)s)")
    parser.add_argument("--format", choices=FORMATS, default="jpg", help="of the pictures (default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        records = write_shapes(args.folder, args.pictures, args.seed, args.size, args.format)
    except CaptionerError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(f"{len(records)} pictures in {args.folder}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
