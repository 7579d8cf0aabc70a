"""docs/other_languages.md: its table of captions becomes a captioner, by its commands."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from captioner import checkpoint
from captioner.cli import main
from captioner.text.pieces import Pieces, separate

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "other_languages.md").read_text(encoding="utf-8")
SMALL = (
    "--model.encoder.last_stage blocks.2 --model.encoder.weights none --model.encoder.image_size 32 "
    "--model.decoder.embedding_size 16 --model.decoder.hidden_size 16 --model.decoder.attention_size 16 "
    "--trainer.max_epochs 2 --trainer.precision 32-true --data.min_count 1 --data.val_share 0.25 --data.batch_size 2"
)
"""What makes the page's run short; its share of four pictures is one."""


def commands() -> list[list[str]]:
    scripts = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    lines = "".join(scripts).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("captioner ")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page says that a user has."""
    [table] = re.findall(r"^```csv\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "captions.csv").write_text(table, encoding="utf-8")
    (tmp_path / "photos").mkdir()
    for number, color in enumerate(("red", "green", "blue", "white"), 1):
        Image.new("RGB", (48, 40), color).save(tmp_path / "photos" / f"{number}.jpg")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_leads_from_a_table_to_captions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, caption, options, evaluate, *_ = commands()
    assert train[0] == "train"
    assert main([*train, *shlex.split(SMALL)]) == 0
    content = checkpoint.read(folder / "runs" / "deutsch" / "captioner.safetensors")
    assert content.tokenizer == Pieces("words")
    with (folder / "captions.csv").open(encoding="utf-8") as file:
        texts = [row["caption"] for row in csv.DictReader(file)]
    assert set(content.words[4:]) <= {piece for text in texts for piece in Pieces("words").split(text)}
    capsys.readouterr()
    assert main(caption) == 0
    assert "▁" not in capsys.readouterr().out
    assert main(options) == 0
    words = separate(capsys.readouterr().out.partition("\t")[2]).split()
    assert "Hund" in words
    assert "Katze" not in words
    assert main([*evaluate[: evaluate.index("0.1")], "0.25", *evaluate[evaluate.index("0.1") + 1 :]]) == 0
    assert "nrefs:2|case:mixed|punct:yes|tok:13a" in capsys.readouterr().out


@pytest.mark.parametrize("tokenizer", ["characters", "bpe", "unigram"])
def test_captions_without_spaces_are_learned(tokenizer: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    japanese = [
        "黒い犬が雪の中を走っている。",
        "白い犬が、草の上を走る。",
        "男の人が道に立っている。",
        "女の子が笑っている。",
    ]
    rows = [f"photos/{number}.jpg,{text}" for number, text in enumerate(japanese, 1)]
    (folder / "captions.csv").write_text("\n".join(["image,caption", *rows]), encoding="utf-8")
    train, caption, *_ = commands()
    assert main([*train, *shlex.split(SMALL), "--data.tokenizer", tokenizer, "--data.subwords", "50"]) == 0
    assert "without spaces" not in capsys.readouterr().err
    assert main([*caption, "--require", "走る", "--max-words", "6"]) == 0
    text = capsys.readouterr().out.partition("\t")[2].strip()
    assert "走る" in text
    assert "▁" not in text


def test_a_run_of_subwords_goes_on_with_its_tokenizer_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, *_ = commands()
    subwords = [*train, *shlex.split(SMALL), "--data.tokenizer", "bpe", "--data.subwords", "60"]
    assert main([*subwords, "--model.self_critical.weight", "1"]) == 2
    assert "self-critical training rewards words" in capsys.readouterr().err
    assert main(subwords) == 0
    last = str(folder / "runs" / "deutsch" / "last.ckpt")
    again = [*subwords, "--resume", last, "--trainer.max_epochs", "3"]
    assert main([*again, "--data.tokenizer", "characters"]) == 2
    assert "has another tokenizer; resume with the data and data.tokenizer" in capsys.readouterr().err
    assert main(again) == 0
    assert "epoch 3:" in capsys.readouterr().err
    content = checkpoint.read(folder / "runs" / "deutsch" / "captioner.safetensors")
    assert content.tokenizer is not None
    assert content.tokenizer.kind == "bpe"
    assert len(content.words) <= 64
