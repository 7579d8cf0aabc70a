"""CHAIR, recall and precision of named things, on captions whose outcome can be counted by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captioner.cli import main
from captioner.metrics.naming import ImageNaming, Naming, categories_named, measure_naming


def name(caption: str, *references: str, boxes: tuple[str, ...] = ()) -> ImageNaming:
    """What a caption of one image names."""
    [image] = measure_naming({1: caption}, {1: references}, {1: boxes}).images
    return image


@pytest.mark.parametrize(
    ("caption", "named"),
    [
        ("A hot dog on a plate.", {"hot dog"}),
        ("A DOG beside a hot dog", {"dog", "hot dog"}),
        ("two dogs and a puppy", {"dog"}),
        ("a teddy bear", {"teddy bear"}),
        ("a woman's bike", {"person", "bicycle"}),
        ("a tree in the wind", set()),
        ("", set()),
    ],
)
def test_a_caption_names_each_thing_once(caption: str, named: set[str]) -> None:
    assert categories_named(caption) == named


def test_a_hallucinated_thing_is_in_no_reference_and_no_box() -> None:
    unseen, boxed = (name("a cat and a dog", "a dog runs", "the dog", boxes=boxes) for boxes in ((), ("cat",)))
    assert unseen.named - unseen.present == {"cat"}
    assert boxed.named <= boxed.present


def test_people_agree_on_what_two_references_name() -> None:
    image = name("a dog", "a dog and a cat, a cat", "a dog on a bed", "a puppy", "grass")
    assert image.agreed == {"dog"}
    assert image.present == {"dog", "cat", "bed"}


def test_a_single_reference_is_believed() -> None:
    assert name("a dog", "a dog and a cat").agreed == {"dog", "cat"}


def test_a_box_alone_is_no_thing_that_a_caption_should_name() -> None:
    image = name("a cat", "a dog", "the dog", boxes=("cat",))
    assert image.agreed == {"dog"}


def test_shares_over_images_are_those_counted_by_hand() -> None:
    naming = measure_naming(
        {"a": "a dog and a cat", "b": "a man with a dog", "c": "a tree"},
        {
            "a": ["a dog", "two dogs"],  # cat is hallucinated, dog found
            "b": ["a man", "a woman", "a dog on a bench"],  # dog is named by one alone: neither wrong nor agreed
            "c": ["a bus", "the bus", "a tree"],  # bus is missed
        },
    )
    assert naming.corpus() == pytest.approx({"CHAIRi": 1 / 4, "CHAIRs": 1 / 3, "recall": 2 / 3, "precision": 2 / 4})
    assert naming.categories() == {
        "bus": {"named": 0, "hallucinated": 0, "agreed": 1, "found": 0},
        "cat": {"named": 1, "hallucinated": 1, "agreed": 0, "found": 0},
        "dog": {"named": 2, "hallucinated": 0, "agreed": 1, "found": 1},
        "person": {"named": 1, "hallucinated": 0, "agreed": 1, "found": 1},
    }


def test_shares_of_nothing_are_no_numbers() -> None:
    naming = measure_naming({1: "a tree", 2: "the sky"}, {1: ["grass"], 2: ["clouds"]})
    shares, intervals = naming.corpus(), naming.intervals(samples=20)
    assert shares["CHAIRs"] == 0
    assert all(math.isnan(shares[each]) for each in ("CHAIRi", "recall", "precision"))
    assert all(math.isnan(intervals[each].low) for each in ("CHAIRi", "recall", "precision"))


def test_samples_that_name_nothing_are_left_out_of_the_interval() -> None:
    """One image in eight names a thing: a third of the samples have no share."""
    naming = measure_naming(
        {k: "a dog" if k == 0 else "a tree" for k in range(8)},
        {k: ["a dog"] if k == 0 else ["grass"] for k in range(8)},
    )
    assert naming.intervals(samples=200)["CHAIRi"] == (0, 0)
    assert naming.intervals(samples=200)["recall"] == (1, 1)


def test_intervals_are_those_of_drawn_images_and_the_same_each_time() -> None:
    chance = np.random.default_rng(3)
    things = ["dog", "cat", "car", "bus"]

    def some() -> frozenset[str]:
        return frozenset(thing for thing in things if chance.random() < 0.5)

    images = tuple(ImageNaming(some(), some(), some()) for _ in range(40))
    naming = Naming(images)
    found = naming.intervals(samples=500, seed=7)
    assert found == naming.intervals(samples=500, seed=7)
    assert found != naming.intervals(samples=500, seed=8)
    drawn = [
        Naming(tuple(images[k] for k in np.random.default_rng(seed).integers(0, 40, 40))).corpus()
        for seed in range(1000)
    ]
    for share, (low, high) in found.items():
        values = [each[share] for each in drawn]
        assert (low, high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=0.03)


def write_data(folder: Path) -> tuple[Path, Path]:
    """COCO annotations and boxes of three photographs."""
    files = sorted(folder.glob("*.png"))
    references = {0: ["a dog runs", "two dogs"], 1: ["a cat", "a cat sits"], 2: ["a road"]}
    captions = {
        "images": [{"id": k, "file_name": file.name} for k, file in enumerate(files)],
        "annotations": [{"image_id": k, "caption": text} for k, texts in references.items() for text in texts],
    }
    boxes = {
        "images": [{"id": k, "file_name": file.name, "width": 90, "height": 60} for k, file in enumerate(files)],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [{"image_id": 2, "category_id": c, "bbox": [0, 0, 9, 9]} for c in (1, 2)],
    }
    (folder / "captions_val2017.json").write_text(json.dumps(captions))
    (folder / "boxes.json").write_text(json.dumps(boxes))
    return folder / "captions_val2017.json", folder / "boxes.json"


def evaluate(*options: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["evaluate", *options]) == 0
    return capsys.readouterr().out


def test_evaluate_tells_what_the_captions_of_a_split_name(
    checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, boxes = write_data(photos)
    results = tmp_path / "results.json"
    command = ["--model", str(checkpoint), "--data", str(data), "--split", "val", "--naming", "--min-words", "2"]
    command += ["--require", "dog"]
    found = json.loads(evaluate(*command, "--json", "--output", str(results), capsys=capsys))["naming"]
    captions = {entry["image_id"]: entry["caption"] for entry in json.loads(results.read_text())}
    references = {0: ["a dog runs", "two dogs"], 1: ["a cat", "a cat sits"], 2: ["a road"]}
    expected = measure_naming(captions, references)
    assert found["CHAIRi"] == pytest.approx(expected.corpus()["CHAIRi"])
    assert found["categories"] == expected.categories()
    assert found["categories"]["dog"] == {"named": 3, "hallucinated": 2, "agreed": 1, "found": 1}
    assert found["intervals"]["CHAIRs"] == list(expected.intervals()["CHAIRs"])

    boxed = json.loads(evaluate(*command, "--json", "--grounding", str(boxes), capsys=capsys))["naming"]
    assert boxed["categories"]["dog"] == {"named": 3, "hallucinated": 1, "agreed": 1, "found": 1}

    shown = evaluate(*command, capsys=capsys).splitlines()
    assert any(line.split() == ["dog", "3", "2", "1", "1"] for line in shown)
    [line] = [line for line in shown if line.startswith("CHAIRi")]
    assert line.split()[1] == f"{found['CHAIRi']:.4f}"


def test_evaluate_tells_that_no_caption_names_a_thing(
    checkpoint: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, _ = write_data(photos)
    command = ["--model", str(checkpoint), "--data", str(data), "--split", "val", "--naming", "--forbid", "dog,cat"]
    found = json.loads(evaluate(*command, "--json", capsys=capsys))["naming"]
    assert (found["CHAIRi"], found["intervals"]["CHAIRi"], found["recall"]) == (None, None, 0)
    assert "CHAIRi" not in evaluate(*command, capsys=capsys)


def test_score_tells_what_candidates_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    references: Any = {1: ["a dog", "the dog runs"], 2: ["a cat", "a bus"]}
    captions = {"annotations": [{"image_id": k, "caption": text} for k, texts in references.items() for text in texts]}
    (tmp_path / "references.json").write_text(json.dumps(captions))
    for file, texts in (("good.json", ("a dog", "a cat")), ("bad.json", ("a cow", "a cat"))):
        results = [{"image_id": k, "caption": text} for k, text in enumerate(texts, start=1)]
        (tmp_path / file).write_text(json.dumps(results))
    command = ["score", "--references", str(tmp_path / "references.json"), "--naming", "--candidates"]
    assert main([*command, str(tmp_path / "bad.json"), "--json"]) == 0
    naming = json.loads(capsys.readouterr().out)["naming"]
    assert (naming["CHAIRi"], naming["CHAIRs"], naming["recall"], naming["precision"]) == (0.5, 0.5, 0, 0)
    assert main([*command, str(tmp_path / "good.json"), str(tmp_path / "bad.json")]) == 0
    lines = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("CHAIRi")]
    assert lines == ["0.0000", "0.5000"]
