"""German captions as Flickr8k's people typed them become those to train on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prepare_german import main

from captioner.data.formats import parse

PUBLISHED = [
    {"image": "1.jpg", "captions": ["zwei hunde kämpfen", "zwei  Hunde kämpfen", "Zwei Hunde!"], "split": "train"},
    {"image": "2.jpg", "captions": ["ein hund im wasser"], "split": "train"},
    {"image": "3.jpg", "captions": ["ein hund", "ein Mann,"], "split": "test"},
]


def test_captions_to_train_on_are_spelled_as_german_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "published.jsonl", tmp_path / "german.jsonl"
    source.write_text("".join(f"{json.dumps(row)}\n" for row in PUBLISHED), encoding="utf-8")
    assert main([str(source), "--output", str(output)]) == 0
    assert capsys.readouterr().out == (
        f"{output}: captions of 2 pictures: 2 for train, 0 for val, 2 for test; 2 without capitals are left out\n"
    )
    found = {str(record.image): record.captions for record in parse(output, None, None)}
    assert found == {"1.jpg": ("Zwei Hunde kämpfen.", "Zwei Hunde!"), "3.jpg": ("ein hund", "ein Mann,")}


def test_a_missing_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.jsonl"), "--output", str(tmp_path / "out.jsonl")]) == 1
    assert capsys.readouterr().err.startswith("prepare_german: ")
    assert not (tmp_path / "out.jsonl").exists()
