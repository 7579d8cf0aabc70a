"""Old names of options are refused with their new ones, wherever they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from captioner.cli import main
from captioner.errors import CaptionerError
from captioner.training.renamed_options import RENAMED, refuse_renamed
from captioner.training.run import parse
from captioner.training.run_arguments import read_configurations


@pytest.mark.parametrize("old", RENAMED)
@pytest.mark.parametrize("form", ["--model.{0} 0.5", "--model.{0}=0.5"])
def test_an_old_name_on_the_command_line_is_told_its_new_one(old: str, form: str) -> None:
    args = ["--trainer.max_epochs", "3", *form.format(old).split()]
    with pytest.raises(CaptionerError) as told:
        refuse_renamed([], args)
    assert str(told.value) == f"train: model.{old} is model.{RENAMED[old]} now"


def test_all_old_names_of_a_file_are_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "old.yaml"
    file.write_text(yaml.safe_dump({"model": {"encoder": "resnet50", "ema": 0.9, "decoder": {"cell": "gru"}}}))
    assert main(["train", "--config", str(file), "--trainer.max_epochs", "1"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    renamed = "model.ema is model.optimizer.ema now, model.encoder is model.encoder.name now"
    assert line == f"captioner: train: {file}: {renamed}"


@pytest.mark.parametrize("old", RENAMED)
def test_each_new_name_is_an_option(old: str, tmp_path: Path) -> None:
    value: Any = options()["model"]
    for name in RENAMED[old].split("."):
        assert name in value
        value = value[name]


@pytest.mark.parametrize(
    "content",
    [
        {"model": {"encoder": {"name": "resnet50"}, "self_critical": {"weight": 0.5}, "distillation": {}}},
        {"data": {"resize": 1}},
        {"model": "elsewhere.yaml"},
        {"model": [1]},
    ],
    ids=str,
)
def test_a_file_without_old_names_is_let_through(content: object, tmp_path: Path) -> None:
    file = tmp_path / "new.yaml"
    file.write_text(yaml.safe_dump(content))
    args = ["-c", str(file), "--model.encoder", "{name: resnet50}", "--model.encoder", str(file)]
    refuse_renamed(read_configurations(args), args)


def test_a_missing_file_is_left_to_the_parser(tmp_path: Path) -> None:
    args = ["--config", str(tmp_path / "missing.yaml"), "--model.distillation", "nowhere.yaml"]
    refuse_renamed(read_configurations(args), args)


def options() -> Any:
    """All options of a captioner's training with their defaults."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("captioner.training.run.CaptionerCLI.instantiate_classes", lambda self: None)
        return parse(["--data.captions", "captions.jsonl"]).config
