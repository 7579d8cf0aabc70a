"""Captions of Flickr8k as people typed them become those to train on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prepare_language import main

from captioner.data.formats import parse

PUBLISHED = [
    {"image": "1.jpg", "captions": ["zwei hunde kämpfen", "zwei  Hunde kämpfen", "Zwei Hunde!"], "split": "train"},
    {"image": "2.jpg", "captions": ["ein hund im wasser"], "split": "train"},
    {"image": "3.jpg", "captions": ["ein hund", "ein Mann,"], "split": "test"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def captions_of(path: Path) -> dict[str, tuple[str, ...]]:
    return {str(record.image): record.captions for record in parse(path, None, None)}


def test_captions_to_train_on_are_spelled_as_german_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = write(tmp_path / "published.jsonl", PUBLISHED), tmp_path / "de.jsonl"
    assert main(["de", str(source), "--output", str(output)]) == 0
    assert capsys.readouterr().out == (
        f"{output}: captions of 2 pictures: 2 for train, 0 for val, 2 for test; 2 without capitals are left out\n"
    )
    assert captions_of(output) == {"1.jpg": ("Zwei Hunde kämpfen.", "Zwei Hunde!"), "3.jpg": ("ein hund", "ein Mann,")}
    assert [json.loads(line)["prompt"] for line in output.read_text(encoding="utf-8").splitlines()] == ["de", "de"]


@pytest.mark.parametrize(
    ("language", "caption", "spelled"),
    [
        ("fr", "un chien  court ,", "Un chien court."),
        ("en", "A dog , in the snow .", "A dog, in the snow."),
        ("ar", "كلب  أسود ، يركض", "كلب أسود ، يركض"),
    ],
)
def test_captions_are_spelled_as_their_script_is(language: str, caption: str, spelled: str, tmp_path: Path) -> None:
    rows = [{"image": f"{split}.jpg", "captions": [caption], "split": split} for split in ("train", "val")]
    source, output = write(tmp_path / "published.jsonl", rows), tmp_path / "out.jsonl"
    assert main([language, str(source), "--output", str(output)]) == 0
    assert captions_of(output) == {"train.jpg": (spelled,), "val.jpg": (caption,)}


def test_fewer_pictures_and_those_of_another_file_are_kept(tmp_path: Path) -> None:
    rows = [{"image": f"{n}.jpg", "captions": ["Ein Hund."], "split": "val" if n == 0 else "train"} for n in range(5)]
    first, second = tmp_path / "de.jsonl", tmp_path / "en.jsonl"
    assert main(["de", str(write(tmp_path / "a", rows)), "--pictures", "2", "--output", str(first)]) == 0
    assert list(captions_of(first)) == ["0.jpg", "1.jpg", "2.jpg"]
    assert main(["en", str(write(tmp_path / "b", rows[::-1])), "--like", str(first), "--output", str(second)]) == 0
    assert list(captions_of(second)) == ["2.jpg", "1.jpg", "0.jpg"]


def test_mistakes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = write(tmp_path / "published.jsonl", PUBLISHED), ["--output", str(tmp_path / "out.jsonl")]
    assert main(["de", str(tmp_path / "none.jsonl"), *output]) == 1
    assert capsys.readouterr().err.startswith("prepare_language: ")
    assert main(["de", str(source), "--pictures", "0", *output]) == 1
    assert capsys.readouterr().err == "prepare_language: 0 pictures leave nothing to train on; give at least 1\n"
    assert not (tmp_path / "out.jsonl").exists()
