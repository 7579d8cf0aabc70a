"""tools/data/make_shapes.py: pictures whose captions, boxes and splits are what they claim to be."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import make_shapes
import numpy as np
import pytest
from make_shapes import COLORS, OUTLINES, RELATIONS, arrange, counts, draw, write_shapes
from PIL import Image

from captioner.data.caption_files import read_records
from captioner.data.records import Record
from captioner.errors import CaptionerError

CAPTION = re.compile(
    rf"(an?) ({'|'.join(COLORS)}) ({'|'.join(OUTLINES)}) ({'|'.join(RELATIONS)}) "
    rf"(an?) ({'|'.join(COLORS)}) ({'|'.join(OUTLINES)})"
)


def parsed(caption: str) -> tuple[tuple[str, str], str, tuple[str, str]]:
    match = CAPTION.fullmatch(caption)
    assert match, caption
    for article, color in ((match[1], match[2]), (match[5], match[6])):
        assert article == ("an" if color == "orange" else "a")
    return (match[2], match[3]), match[4], (match[6], match[7])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    folder = tmp_path_factory.mktemp("shapes")
    return folder, write_shapes(folder, pictures=200, seed=3, size=64)


def test_the_set_is_read_like_any_other(made: tuple[Path, list[Record]]) -> None:
    folder, records = made
    assert read_records(folder / "captions.jsonl") == records
    assert {split: sum(r.split == split for r in records) for split in ("train", "val", "test")} == counts(200)
    assert counts(200) == {"train": 160, "val": 20, "test": 20}


def test_no_combination_of_one_split_occurs_in_another(made: tuple[Path, list[Record]]) -> None:
    _, records = made
    seen: dict[frozenset[tuple[str, str]], str] = {}
    for record in records:
        first, _, second = parsed(record.captions[0])
        assert seen.setdefault(frozenset((first, second)), record.split) == record.split
    assert set(seen.values()) == {"train", "val", "test"}


def test_training_shows_every_word(made: tuple[Path, list[Record]]) -> None:
    _, records = made
    words = {
        split: {w for r in records if r.split == split for c in r.captions for w in c.split()}
        for split in ("train", "test")
    }
    assert words["train"] >= {*COLORS, *OUTLINES, *" ".join(RELATIONS).split()}
    assert words["test"] <= words["train"]


def test_no_combination_keeps_to_one_axis(tmp_path: Path) -> None:
    axes: dict[frozenset[tuple[str, str]], set[bool]] = {}
    for record in write_shapes(tmp_path, pictures=360, size=32):
        first, relation, second = parsed(record.captions[0])
        axes.setdefault(frozenset((first, second)), set()).add(relation in ("left of", "right of"))
    assert set(map(len, axes.values())) == {2}


def test_the_shapes_of_a_caption_differ_in_color_and_in_form(made: tuple[Path, list[Record]]) -> None:
    for record in made[1]:
        assert len(record.captions) == 1
        first, _, second = parsed(record.captions[0])
        assert first[0] != second[0]
        assert first[1] != second[1]


def test_the_boxes_bear_the_captions_out(made: tuple[Path, list[Record]]) -> None:
    folder, records = made
    content = json.loads((folder / "boxes.json").read_text())
    images = content["images"]
    assert content["size"] == 64
    assert len(images) == len(records)
    for record in records:
        first, relation, second = parsed(record.captions[0])
        one, other = images[record.image.relative_to(folder).as_posix()]
        assert ((one["colour"], one["shape"]), (other["colour"], other["shape"])) == (first, second)
        assert one["box"][2] > 1.15 * other["box"][2], "the larger one comes first"
        centers = np.array([[x + w / 2, y + h / 2] for x, y, w, h in (one["box"], other["box"])])
        across, down = centers[0] - centers[1]
        wanted = {"left of": -across, "right of": across, "above": -down, "below": down}[relation]
        stray = down if relation in ("left of", "right of") else across
        assert wanted > 2.5 * abs(stray), "only this relation can be said"


@pytest.mark.parametrize("size", [32, 100, 224])
def test_shapes_lie_apart_within_the_picture(size: int) -> None:
    randomness = random.Random(size)
    for number in range(2000):
        relation = RELATIONS[number % 4]
        scene = arrange((("red", "circle"), ("blue", "square")), relation, size, randomness)
        (x, y, w, h), (u, v, s, t) = scene.first.box, scene.second.box
        assert min(x, y, u, v) >= 0
        assert max(x + w, y + h, u + s, v + t) <= size
        assert x + w < u or u + s < x or y + h < v or v + t < y


def test_each_box_holds_its_color_and_form() -> None:
    randomness = random.Random(0)
    for form, share in (("circle", np.pi / 4), ("square", 1.0), ("triangle", 0.5), ("cross", 5 / 9)):
        scene = arrange((("blue", form), ("yellow", "square")), "left of", 224, randomness)
        pixels = np.asarray(draw((scene.first, scene.second), 224, randomness)).astype(int)
        near = np.abs(pixels - COLORS["blue"]).max(axis=2) < 40
        x, y, w, h = scene.first.box
        assert near[y : y + h, x : x + w].mean() == pytest.approx(share, abs=0.05)
        rows, columns = near.nonzero()
        assert (columns.min(), rows.min()) == pytest.approx((x, y), abs=2)
        assert (columns.max() + 1, rows.max() + 1) == pytest.approx((x + w, y + h), abs=2)


def test_the_same_seed_gives_the_same_set(tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        write_shapes(tmp_path / name, pictures=10, seed=seed, size=32, suffix="png")
    a, b, c = ({p.name: p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()} for name in "abc")
    assert a == b
    assert a["captions.jsonl"] != c["captions.jsonl"]
    assert len(a) == 12


@pytest.mark.parametrize(("suffix", "kind"), [("jpg", "JPEG"), ("png", "PNG")])
def test_pictures_are_of_the_size_and_kind_asked_for(tmp_path: Path, suffix: str, kind: str) -> None:
    records = write_shapes(tmp_path, pictures=10, size=48, suffix=suffix)
    with Image.open(records[0].image) as picture:
        assert (picture.format, picture.mode, picture.size) == (kind, "RGB", (48, 48))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"pictures": 9}, "pictures is 9: give at least 10, so that no split is empty"),
        ({"size": 31}, "size is 31 pixels: give at least 32, so that forms can be told apart"),
    ],
)
def test_too_little_is_refused(tmp_path: Path, option: dict[str, int], message: str) -> None:
    with pytest.raises(CaptionerError) as raised:
        write_shapes(tmp_path, **option)  # type: ignore[arg-type]
    assert str(raised.value) == message
    assert list(tmp_path.iterdir()) == []


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "shapes"
    assert make_shapes.main([str(folder), "--pictures", "10", "--seed", "2", "--size", "32", "--format", "png"]) == 0
    assert len(read_records(folder / "captions.jsonl")) == 10
    assert make_shapes.main([str(folder), "--pictures", "1"]) == 2
    (tmp_path / "file").touch()
    assert make_shapes.main([str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 3
