"""Several sources become one data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from prepare_everyday import main

from captioner.data.caption_files import read_records


def write(folder: Path, name: str, *rows: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in rows:
        picture = folder / row["image"]
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(picture)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    row = {"captions": ["a dog"], "split": "train", "human": True, "tags": [["dog", 0.9]]}
    write(
        tmp_path / "first",
        "captions.jsonl",
        {**row, "image": "a/1.png"},
        {**row, "image": "a/2.png", "split": "val", "human": False},
    )
    (tmp_path / "first" / "flickr8k_tags.jsonl").write_text('{"image": "f.png", "tags": [["cat", 0.5]]}\n')
    write(tmp_path / "second", "captions.jsonl", {**row, "image": "b/1.png", "replaces": "a/1.png"})
    flickr8k = tmp_path / "flickr"
    (flickr8k / "images").mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(flickr8k / "images" / "f.png")
    entry = {"filename": "f.png", "split": "test", "sentences": [{"raw": "A cat ."}, {"raw": "One cat"}]}
    (flickr8k / "dataset_flickr8k.json").write_text(json.dumps({"images": [entry]}))
    return tmp_path


def run(sources: Path) -> int:
    folders = [f"--everyday={sources / 'first'}", f"--more={sources / 'second'}", f"--flickr8k={sources / 'flickr'}"]
    return main([*folders, "--output", str(sources / "out")])


def test_the_sets_are_put_together_without_what_is_replaced(sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(sources) == 0
    assert run(sources) == 0  # again, over itself
    assert "3 pictures (train 1, val 1, test 1)" in capsys.readouterr().out
    records = read_records(sources / "out" / "captions.jsonl", anywhere=True)
    assert [record.image.name for record in records] == ["1.png", "2.png", "f.png"]
    assert records[0].image.parent.parent.name == "more"
    assert records[2].captions == ("A cat .", "One cat")
    assert records[2].tags == (("cat", 0.5),)
    by_people = read_records(sources / "out" / "by_people.jsonl", anywhere=True)
    assert [record.image for record in by_people] == [records[0].image, records[2].image]


def test_a_folder_without_its_file_is_named(sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sources / "flickr" / "dataset_flickr8k.json").unlink()
    assert run(sources) == 2
    assert "dataset_flickr8k.json: cannot be read" in capsys.readouterr().err
    assert not (sources / "out" / "captions.jsonl").exists()
