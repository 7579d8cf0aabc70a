"""Writes questions about pictures of drawn shapes, whose answers and whose places to look at are known.

Each picture holds two to five shapes in the cells of a board of three by three, and is drawn for one question:

- what color is the square?
- what color is the shape left of the square? (the only one on the same line)
- is there a red square? (half of the answers are "yes")
- how many red squares are there? (none to three)

Every question is about one combination of a way to ask (one for each of the four relations), a color and a form. No
combination of one split occurs in another: validation and test ask what was never asked in training.

    python tools/data/make_questions.py data/questions --questions 24000 --seed 1

The folder then holds ``images/`` and ``questions.csv`` with the columns image, question, answer, split, type, and box:
left, top, width and height in pixels of the shape that is asked for; empty where there is none, or not one alone.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from make_shapes import COLORS, FEWEST, OUTLINES, RELATIONS, Kind, Shape, counts, draw
from PIL import Image

from captioner.data.records import SPLITS
from captioner.errors import CaptionerError
from captioner.utils.files import replacing

BOARD = 3
"""Cells of a side of the board."""

SIDES = (0.2, 0.26)
"""Least and greatest side of a shape, in picture sides: less than a cell."""

DRIFT = 0.02
"""How far a center may lie off that of its cell, in picture sides: on one line, none is left of another."""

SMALLEST = 40
"""Side of a picture in pixels below which forms cannot be told apart."""

FEWEST_SHAPES, MOST_SHAPES = 2, 5
GREATEST_COUNT = 3

TYPES = ("color", "color beside", "is there", "how many")

Cell = tuple[int, int]
"""Column and row on the board."""


class Way(NamedTuple):
    """A way to ask: its type, and the relation to another shape, if it has one."""

    type: str
    relation: str = ""


class Drawn(NamedTuple):
    """A question, and the kinds of shape that its picture has to show.

    Attributes:
        question: The question.
        answer: Its answer.
        kinds: Color and form of the shape in each cell.
        target: The cell of the shape that is asked for; None where there is none, or not one alone.
    """

    question: str
    answer: str
    kinds: dict[Cell, Kind]
    target: Cell | None


def holds(relation: str, first: Cell, second: Cell) -> bool:
    """Whether the first cell is on a line with the second and stands in a relation to it: one of ``RELATIONS``."""
    along = 0 if relation in ("left of", "right of") else 1
    near, far = (first, second) if relation in ("left of", "above") else (second, first)
    return near[along] < far[along] and near[1 - along] == far[1 - along]


def relations_of(type_: str) -> Sequence[str]:
    """The relations that a type of question asks about; an empty one where there are none."""
    return RELATIONS if type_ == "color beside" else ("",)


def combinations(randomness: random.Random) -> dict[str, dict[Way, list[Kind]]]:
    """Deals the kinds of shape that are asked for in each way to the splits."""
    dealt: dict[str, dict[Way, list[Kind]]] = {split: {} for split in SPLITS}
    for way in (Way(type_, relation) for type_ in TYPES for relation in relations_of(type_)):
        kinds = [(color, form) for color in COLORS for form in OUTLINES]
        randomness.shuffle(kinds)
        for split, count in counts(len(kinds)).items():
            dealt[split][way], kinds = kinds[:count], kinds[count:]
    return dealt


def ask(way: Way, kind: Kind, randomness: random.Random) -> Drawn:
    """Asks in a way about a kind of shape, and makes up what the picture shows.

    Args:
        way: The way to ask.
        kind: Color and form of the shape that is asked for.
        randomness: Where the chance comes from.
    """
    if way.relation:
        return _ask_beside(way.relation, kind, randomness)
    color, form = kind
    if way.type == "how many":
        count = randomness.randint(0, GREATEST_COUNT)
        kinds = _among_resembling(kind, count, randomness)
        question = f"how many {color} {form}{'es' if form.endswith('s') else 's'} are there?"
        return Drawn(question, str(count), kinds, next(iter(kinds)) if count == 1 else None)
    if way.type == "is there":
        present = randomness.random() < 0.5
        kinds = _among_resembling(kind, int(present), randomness)
        question = f"is there {_article(color)} {color} {form}?"
        return Drawn(question, "yes" if present else "no", kinds, next(iter(kinds)) if present else None)
    target, *cells = _cells(FEWEST_SHAPES, randomness)
    others = {cell: _other(randomness, form=form) for cell in cells}
    return Drawn(f"what color is the {form}?", color, {target: kind, **others}, target)


def _ask_beside(relation: str, kind: Kind, randomness: random.Random) -> Drawn:
    """Asks about the only shape that stands in a relation to another, which is named by its form."""
    cells, target, other = _place_beside(relation, randomness)
    named = randomness.choice([form for form in OUTLINES if form != kind[1]])
    kinds = {cell: _other(randomness, form=named) for cell in cells}
    kinds |= {target: kind, other: (randomness.choice([*COLORS]), named)}
    return Drawn(f"what color is the shape {relation} the {named}?", kind[0], kinds, target)


def _place_beside(relation: str, randomness: random.Random) -> tuple[list[Cell], Cell, Cell]:
    """Cells of two to five shapes, and two of them, the first of which alone stands in a relation to the second."""
    while True:
        cells = _cells(FEWEST_SHAPES, randomness)
        other = cells[0]
        targets = [cell for cell in cells if holds(relation, cell, other)]
        if len(targets) == 1:
            return cells, targets[0], other


def _cells(least: int, randomness: random.Random) -> list[Cell]:
    """Different cells, at least so many, at most ``MOST_SHAPES``."""
    board = [(column, row) for column in range(BOARD) for row in range(BOARD)]
    return randomness.sample(board, randomness.randint(least, MOST_SHAPES))


def _other(randomness: random.Random, color: str = "", form: str = "") -> Kind:
    """A kind of shape without that color and without that form."""
    colors, forms = [each for each in COLORS if each != color], [each for each in OUTLINES if each != form]
    return randomness.choice(colors), randomness.choice(forms)


def _among_resembling(kind: Kind, count: int, randomness: random.Random) -> dict[Cell, Kind]:
    """So many shapes of a kind, first, then others: at first one that differs in color alone, and one in form alone."""
    color, form = kind
    others = [(_other(randomness, color=color)[0], form), (color, _other(randomness, form=form)[1])]
    randomness.shuffle(others)
    different = [(each, outline) for each in COLORS for outline in OUTLINES if (each, outline) != kind]
    kinds = [*(kind,) * count, *others, *randomness.choices(different, k=MOST_SHAPES)]
    return dict(zip(_cells(max(count, FEWEST_SHAPES), randomness), kinds, strict=False))


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def put(drawn: Drawn, size: int, randomness: random.Random) -> dict[Cell, Shape]:
    """Gives each shape a size, and a place inside its cell.

    Args:
        drawn: What to show.
        size: The picture's side in pixels.
        randomness: Where the chance comes from.
    """
    shapes = {}
    for (column, row), (color, form) in drawn.kinds.items():
        side = round(randomness.uniform(*SIDES) * size)
        centers = ((at + 0.5) / BOARD + randomness.uniform(-DRIFT, DRIFT) for at in (column, row))
        x, y = (round(center * size - side / 2) for center in centers)
        shapes[column, row] = Shape(color, form, (x, y, side, side))
    return shapes


def save(picture: Image.Image, path: Path) -> None:
    """Writes a picture, without the wait of `replacing`: it counts once ``questions.csv`` is there.

    Raises:
        CaptionerError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    except OSError as error:
        raise CaptionerError(f"cannot write {path}: {error.strerror or error}; choose another folder") from error


def write_questions(folder: Path, questions: int = 24000, seed: int = 1, size: int = 48) -> None:
    """Writes the data set: ``images/``, and last ``questions.csv``.

    Args:
        folder: Where to write; made where it is missing.
        questions: How many, over all splits.
        seed: The same seed gives the same pictures and questions.
        size: Side of a picture in pixels.

    Raises:
        CaptionerError: Too few questions or too small pictures, or a folder that cannot be written to.
    """
    if questions < FEWEST:
        raise CaptionerError(f"questions is {questions}: give at least {FEWEST}, so that no split is empty")
    if size < SMALLEST:
        raise CaptionerError(f"size is {size} pixels: give at least {SMALLEST}, so that forms can be told apart")
    randomness = random.Random(seed)
    dealt = combinations(randomness)
    rows: list[tuple[str, ...]] = []
    for split in SPLITS:
        for _ in range(counts(questions)[split]):
            type_ = randomness.choice(TYPES)
            way = Way(type_, randomness.choice(relations_of(type_)))
            drawn = ask(way, randomness.choice(dealt[split][way]), randomness)
            shapes = put(drawn, size, randomness)
            name = f"images/{len(rows):06d}.png"
            save(draw([*shapes.values()], size, randomness), folder / name)
            box = "" if drawn.target is None else " ".join(map(str, shapes[drawn.target].box))
            rows.append((name, drawn.question, drawn.answer, split, way.type, box))
    # Last, so that a folder with questions.csv is a whole data set.
    with replacing(folder / "questions.csv") as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "question", "answer", "split", "type", "box"), *rows])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns 0, or 2 for wrong use."""
    parser = argparse.ArgumentParser(description="Write questions about generated pictures of colored shapes.")
    parser.add_argument("folder", type=Path, help="where to write, such as data/questions")
    parser.add_argument("--questions", type=int, default=24000, help="how many, over all splits (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same set (default: %(default)s)")
    parser.add_argument("--size", type=int, default=48, help="side of a picture in pixels (default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        write_questions(args.folder, args.questions, args.seed, args.size)
    except CaptionerError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(f"{args.questions} questions in {args.folder}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
