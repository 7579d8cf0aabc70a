"""tools/data/make_questions.py: questions whose answers, boxes and splits are what they claim to be."""

from __future__ import annotations

import csv
import random
import re
from pathlib import Path

import numpy as np
import pytest
from make_questions import TYPES, Way, ask, combinations, main, put, relations_of, write_questions
from make_shapes import COLORS, OUTLINES, RELATIONS, Shape
from PIL import Image

COLOR = f"(?P<color>{'|'.join(COLORS)})"
FORM = f"(?P<form>{'|'.join(OUTLINES)})"
RELATION = f"(?P<relation>{'|'.join(RELATIONS)})"
NAMED = f"(?P<named>{'|'.join(OUTLINES)})"
PATTERNS = {
    "color": f"what color is the {FORM}",
    "is there": f"is there an? {COLOR} {FORM}",
    "how many": f"how many {COLOR} {FORM}(es|s) are there",
    "color beside": f"what color is the shape {RELATION} the {NAMED}",
}
WAYS = [Way(type_, relation) for type_ in TYPES for relation in relations_of(type_)]


def center(shape: Shape) -> tuple[float, float]:
    x, y, width, height = shape.box
    return x + width / 2, y + height / 2


def stands(first: Shape, relation: str, second: Shape) -> bool:
    """By the centers in pixels: on one line they differ by less than a tenth of the picture, on two by far more."""
    (x, y), (to_x, to_y) = center(first), center(second)
    along, across = (x - to_x, y - to_y) if relation in ("left of", "right of") else (y - to_y, x - to_x)
    return abs(across) < 6 and (along < -9 if relation in ("left of", "above") else along > 9)


def solve(type_: str, question: str, shapes: list[Shape]) -> tuple[str, list[Shape]]:
    """Answers a question by looking at the shapes; also gives those that it asks for."""
    match = re.fullmatch(PATTERNS[type_] + r"\?", question)
    assert match, question
    told = match.groupdict()
    asked_for = [
        shape
        for shape in shapes
        if told.get("color") in (None, shape.color) and told.get("form") in (None, shape.shape)
    ]
    if "named" in told:
        [other] = [shape for shape in shapes if told["named"] == shape.shape]
        asked_for = [shape for shape in asked_for if stands(shape, told["relation"], other)]
    if type_ == "is there":
        return "yes" if asked_for else "no", asked_for
    if type_ == "how many":
        return str(len(asked_for)), asked_for
    [one] = asked_for
    return one.color, asked_for


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.type} {way.relation}".strip())
def test_answers_follow_from_what_is_drawn(way: Way) -> None:
    randomness = random.Random(4)
    found = set()
    for _ in range(300):
        kind = randomness.choice([*COLORS]), randomness.choice([*OUTLINES])
        drawn = ask(way, kind, randomness)
        shapes = put(drawn, 64, randomness)
        answer, asked_for = solve(way.type, drawn.question, [*shapes.values()])
        assert answer == drawn.answer
        assert ([shapes[drawn.target]] if drawn.target else None) == (asked_for if len(asked_for) == 1 else None)
        assert way.relation in drawn.question
        found.add(answer)
    assert found == {
        "color": {*COLORS}, "is there": {"yes", "no"}, "how many": {"0", "1", "2", "3"}
    }[way.type.removesuffix(" beside")]  # fmt: skip


def test_no_combination_of_one_split_is_in_another() -> None:
    dealt = combinations(random.Random(1))
    for way in WAYS:
        kinds = [kind for split in ("train", "val", "test") for kind in dealt[split][way]]
        assert len(kinds) == len(set(kinds)) == len(COLORS) * len(OUTLINES)
        assert all(dealt[split][way] for split in ("val", "test"))


def test_shapes_stay_apart_and_inside() -> None:
    randomness = random.Random(6)
    for way in WAYS * 20:
        shapes = [*put(ask(way, ("red", "cross"), randomness), 64, randomness).values()]
        covered = np.zeros((64, 64), int)
        for shape in shapes:
            x, y, width, height = shape.box
            assert min(x, y) >= 0
            assert max(x + width, y + height) <= 64
            covered[y : y + height, x : x + width] += 1
        assert covered.max() == 1
        assert 2 <= len(shapes) <= 5


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "questions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_written_shows_what_is_asked_in_no_other_split(tmp_path: Path) -> None:
    write_questions(tmp_path, questions=400, seed=2)
    seen: dict[tuple[str, ...], str] = {}
    for row in rows(tmp_path):
        with Image.open(tmp_path / row["image"]) as picture:
            assert picture.size == (48, 48)
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        match = re.match(PATTERNS[row["type"]], row["question"])
        assert match
        told = match.groupdict()
        if row["type"] in ("color", "color beside"):
            x, y, width, height = map(int, row["box"].split())
            assert abs(pixels[y + height // 2, x + width // 2] - COLORS[row["answer"]]).max() <= 10
            told["color"] = row["answer"]
        if row["type"] != "color beside":  # whose question does not tell the form that is asked for
            asked = (row["type"], told["color"], told["form"])
            assert seen.setdefault(asked, row["split"]) == row["split"]
    assert set(seen.values()) == {"train", "val", "test"}


def test_the_seed_alone_decides(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        assert main([str(tmp_path / name), "--questions", "20", "--seed", str(seed)]) == 0
    one, same, other = (
        [file.read_bytes() for file in sorted((tmp_path / name).rglob("*.*"))] for name in ("one", "same", "other")
    )
    assert len(one) == 21
    assert one == same
    assert one != other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--questions", "9"], "questions is 9: give at least 10"),
        (["--size", "32"], "size is 32 pixels: give at least 40"),
    ],
)
def test_too_little_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([str(tmp_path / "set"), *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "set").exists()
