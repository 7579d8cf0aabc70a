"""The law of a learning curve, and a curve of tiny data sets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import learning_curve
import pytest

from captioner.errors import CaptionerError

SAMPLES = Path(__file__).parents[2] / "data" / "samples"


def test_the_law_that_made_the_scores_is_found() -> None:
    law = learning_curve.Law(1.1, 12.0, 0.4)
    sizes = [2_500, 5_000, 10_000, 20_000, 40_000]
    found = learning_curve.fit(sizes, [law.at(size) for size in sizes])
    assert found == pytest.approx(law, rel=0.02)
    assert found.at(113_000) == pytest.approx(law.at(113_000), abs=1e-3)


def test_scores_that_fall_are_fitted_by_a_constant() -> None:
    assert learning_curve.fit([10, 20, 40], [0.5, 0.4, 0.3]).at(1000) == pytest.approx(0.4)


def test_a_source_without_validation_photographs_is_told(tmp_path: Path) -> None:
    row = {"image": "a.jpg", "captions": ["a cat"], "split": "train", "source": "mine"}
    (tmp_path / "captions.jsonl").write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(CaptionerError, match="has no photograph of mine in split val"):
        learning_curve.read_rows(tmp_path / "captions.jsonl", ["mine"])


@pytest.mark.slow
def test_a_curve_is_trained_and_taken_up_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photographs = sorted(SAMPLES.glob("*.jpg"))[:4]
    rows = []
    for number in range(10):
        name = f"{number}.jpg"
        shutil.copy(photographs[number % len(photographs)], tmp_path / name)
        split, human = ("val" if number > 6 else "train"), number != 6
        text = ["a cat sits on a mat", "a boat on the sea"][number % 2]
        rows.append({"image": name, "captions": [text], "split": split, "source": "mine", "human": human})
    data = tmp_path / "captions.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    small = [
        "--model.encoder.image_size",
        "64",
        "--model.encoder.weights",
        "none",
        "--model.decoder.embedding_size",
        "8",
    ]
    small += ["--model.decoder.hidden_size", "8", "--model.decoder.attention_size", "8", "--data.min_count", "1"]
    small += ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.precision", "32"]
    command = ["--data", str(data), "--source", "mine", "--output", str(tmp_path / "curve"), "--sizes"]
    assert learning_curve.main([*command, "2", "4", "6", "--predict", "12", *small]) == 0
    found = json.loads((tmp_path / "curve" / "curve.json").read_text(encoding="utf-8"))
    assert found["images"] == [2, 4, 6]
    assert all(low <= score <= high for score, (low, high) in zip(found["CIDEr"], found["intervals"], strict=True))
    models = [tmp_path / "curve" / f"{size}-seed-1" / "captioner.safetensors" for size in (2, 4, 6)]
    before = [model.stat().st_mtime_ns for model in models]
    capsys.readouterr()
    assert learning_curve.main([*command, "2", "4", "6", "--predict", "12", *small]) == 0
    assert [model.stat().st_mtime_ns for model in models] == before
    assert learning_curve.main([*command, "2", "4", "7", *small]) == 2
    assert "--sizes [2, 4, 7]: give three or more, at most 6" in capsys.readouterr().err
