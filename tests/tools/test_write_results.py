"""The README's table comes from an evaluation, and the model's card too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import write_results
from make_shapes import write_shapes
from train_embedded import END, PHASES, Phase
from train_embedded import main as train_embedded

from captioner import checkpoint
from captioner.models.captioner import CaptionerConfig

EVALUATION: dict[str, Any] = {
    "split": "test",
    "images": 1000,
    "BLEU-4": 0.2345,
    "CIDEr": 0.6,
    "intervals": {"BLEU-4": [0.22, 0.25]},
    "naming": {"CHAIRi": 0.1, "recall": 0.5, "precision": 0.9, "intervals": {"CHAIRi": [0.05, 0.15]}},
}


def test_the_table_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    file, readme = tmp_path / "evaluation.json", tmp_path / "README.md"
    file.write_text(json.dumps(EVALUATION))
    marks = write_results.BEGIN_PRINTED + "old captions\n" + write_results.END_PRINTED
    readme.write_text(marks + "before\n" + write_results.BEGIN + "| old |\n" + write_results.END + "after\n")
    assert write_results.main([f"Some={file}", "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith(write_results.BEGIN_PRINTED + "```text\ndata/samples/astronaut.jpg\t")
    assert "before\n" + write_results.BEGIN + "| embedded model (" in text
    row = "| Some, 1,000 images | 23.4 (22.0 to 25.0) |  | 60.0 | 10.0 (5.0 to 15.0) | 50.0 | 90.0 |\n"
    assert row + write_results.END + "after\n" in text
    assert "| old |" not in text
    assert "old captions" not in text
    assert write_results.main([f"Some={file}", "--readme", str(readme)]) == 0
    assert readme.read_text() == text
    assert write_results.main([f"Some={file}", f"Other={file}", "--readme", str(readme)]) == 0
    assert row + row.replace("Some", "Other") in readme.read_text()


def test_an_evaluation_without_a_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, readme = tmp_path / "evaluation.json", tmp_path / "README.md"
    readme.write_text(write_results.BEGIN + write_results.END)
    with pytest.raises(SystemExit):
        write_results.main([str(file), "--readme", str(readme)])
    assert f"'{file}' is not of the form NAME=EVALUATION.json" in capsys.readouterr().err
    assert readme.read_text() == write_results.BEGIN + write_results.END


def test_a_readme_without_marks_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, readme = tmp_path / "evaluation.json", tmp_path / "README.md"
    file.write_text(json.dumps(EVALUATION))
    readme.write_text("no marks\n")
    assert write_results.main([f"Some={file}", "--readme", str(readme)]) == 2
    assert "are missing" in capsys.readouterr().err
    assert readme.read_text() == "no marks\n"


def test_the_embedded_model_is_trained_from_nothing_and_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train_embedded.shutil.which", lambda name: None)  # METEOR has tests of its own
    write_shapes(tmp_path / "shapes", 40, seed=1, size=64)
    sizes = [f"--model.decoder.{name}_size=16" for name in ("embedding", "hidden", "attention")]
    command = [
        *("--output", str(tmp_path / "run"), *sizes),
        *(
            "--model.encoder.name",
            "mobilenet_v3_small",
            "--model.encoder.weights",
            "none",
            "--model.encoder.image_size",
            "64",
        ),
        *("--model.encoder.unfreeze_from", "12"),
        *("--data.captions", f"[{tmp_path}/shapes/captions.jsonl]", "--data.images", f"{tmp_path}/shapes"),
        *("--data.feature_cache", "null", "--data.min_count", "1", "--data.flip", "false"),
        *("--model.losses.kept_classes", "0", "--data.images_anywhere", "false", "--trainer.val_check_interval", "1.0"),
        *("--trainer.max_epochs", "1", "--trainer.precision", "32-true"),
    ]
    assert train_embedded(command) == 0
    content = checkpoint.read(tmp_path / "run" / "captioner.safetensors")
    assert isinstance(content.config, CaptionerConfig)
    assert (content.config.decoder.members, content.config.feature_size) == (1, 512)
    scores = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert content.card["test scores"]["BLEU-4"] == pytest.approx(scores["BLEU-4"], abs=1e-4)
    phases = content.card["phases"]
    assert list(phases) == [name for name, part in PHASES.items() if isinstance(part, Phase)]
    assert all(phase["encoder trained"] == "from 12" and phase["training images"] == 32 for phase in phases.values())
    training = checkpoint.read(tmp_path / "run" / END / "captioner.safetensors").card["training"]
    assert training["encoder trained"] == "from 12"
    assert training["self-critical"] > 0
    assert training["started from"] == "captioner.safetensors"
    capsys.readouterr()
    assert train_embedded(command) == 0
    assert "epoch" not in capsys.readouterr().err
    (tmp_path / "run" / END / "last.ckpt").write_bytes(b"")
    assert train_embedded(command) == 2
    assert f"{END}/last.ckpt: is empty" in capsys.readouterr().err
