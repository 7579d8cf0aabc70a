"""``captioner evaluate --prompts``: each image continues its own prompt, and what follows it is scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import make_captioner
from PIL import Image

from captioner import load
from captioner.cli import main
from captioner.text.pieces import Pieces
from captioner.text.vocabulary import Vocabulary

TEXTS = ["de Ein Hund rennt über die Straße.", "en A dog, two dogs: run on the street."]
PROMPTS = ("de", "de Ein Hund", "de Ein Kaninchen", "en")
"""As in training, a model may lack words of a prompt."""


@pytest.fixture(params=["english", "words"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A captioner that writes anything; the words of English ones have no capitals."""
    tokenizer = None if request.param == "english" else Pieces("words")
    path = tmp_path / "model.safetensors"
    make_captioner(vocabulary=Vocabulary.from_captions(TEXTS, 1, tokenizer=tokenizer)).save(path)
    return path


@pytest.fixture
def rows(tmp_path: Path, model: Path) -> list[dict[str, Any]]:
    """What the model writes after each prompt, as what people would have written."""
    for number, color in enumerate(("red", "blue")):
        Image.new("RGB", (64, 64), color).save(tmp_path / f"{number}.png")
    rows = []
    captioner = load(model)
    for number in range(2):
        for prompt in PROMPTS:
            ids = captioner.vocabulary.encode(prompt)[1:-1]
            caption = captioner.caption(tmp_path / f"{number}.png", prompt=ids, max_words=6 + len(ids))
            row = {"image": f"{number}.png", "prompt": prompt, "captions": [caption.continuation], "split": "test"}
            rows.append(row)
    return rows


def evaluate(rows: list[dict[str, Any]], folder: Path, *options: str) -> int:
    data = folder / "captions.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    model = folder / "model.safetensors"
    return main(["evaluate", "--data", str(data), "--model", str(model), "--max-words", "6", "--json", *options])


def test_what_follows_each_prompt_is_scored(
    rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.json"
    assert evaluate(rows, tmp_path, "--prompts", "--tokenizer", "none", "--output", str(output)) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["images"] == len(rows)
    assert scores["BLEU-1"] == pytest.approx(1)
    written = sorted(line["caption"] for line in json.loads(output.read_text(encoding="utf-8")))
    assert written == sorted(row["captions"][0] for row in rows)


def test_images_that_were_drawn_have_their_prompts(
    rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for row in rows:
        del row["split"]
    assert evaluate(rows, tmp_path, "--prompts", "--tokenizer", "none", "--val-share", "0.5") == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["images"] == len(PROMPTS)
    assert scores["BLEU-1"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", "de"], "--prompts and --prompt exclude each other"),
        (["--naming"], "--prompts and --naming exclude each other"),
        ([], "no caption has a prompt; write one into a column or field 'prompt'"),
    ],
)
@pytest.mark.parametrize("model", ["words"], indirect=True)
def test_a_mistake_is_told(
    rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    plain = [{key: value for key, value in row.items() if key != "prompt"} for row in rows[:: len(PROMPTS)]]
    assert evaluate(plain, tmp_path, "--prompts", *options) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
