"""tools/compare_variants.py on generated pictures: trained once, resumed where it stopped, told in a table."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import compare_variants
import pytest
import torch
import torchvision
import yaml
from compare_variants import VARIANTS, planned, read_variants, table
from make_shapes import write_shapes
from safetensors.torch import load_file

from captioner.cli import main as captioner_main
from captioner.errors import CaptionerError
from captioner.experiment import CaptionerCLI, ScoreLines, parse

PICTURES = 40
FLICKR8K = VARIANTS.with_name("flickr8k.yaml")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, PICTURES, seed=1, size=64)
    torch.manual_seed(1)
    # Random weights would be others for each seed, and features have to be the same for all.
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), folder / "resnet18.pt")
    return folder


@pytest.fixture
def command(shapes: Path, tmp_path: Path) -> list[str]:
    config: dict[str, Any] = {
        "trainer": {"gradient_clip_val": 5.0},
        "model": {
            "encoder": "resnet18",
            "encoder_weights": str(shapes / "resnet18.pt"),
            "image_size": 64,
            "learning_rate": 1e-2,
            "decoder": {"embedding_size": 16, "hidden_size": 16, "attention_size": 16},
        },
        "data": {
            "captions": [str(shapes / "captions.jsonl")],
            "min_count": 1,
            "batch_size": 8,
            "workers": 0,
            "feature_cache": str(shapes / "features.safetensors"),
        },
    }
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(config))
    variants = {"gru": {"model.decoder.cell": "gru"}, "blind": {"model.decoder.attention": "none"}}
    (tmp_path / "variants.yaml").write_text(yaml.safe_dump(variants, sort_keys=False))
    files = ["--config", str(tmp_path / "base.yaml"), "--variants", str(tmp_path / "variants.yaml")]
    return [*files, "--epochs", "1", "--seeds", "1", "2"]


def results(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return content


def test_every_run_is_done_once_and_scored_as_the_command_line_does(
    command: list[str], shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "runs"
    assert compare_variants.main([*command, "--output", str(output)]) == 0
    printed = capsys.readouterr()
    assert printed.out == (output / "table.md").read_text()
    found = results(output)
    assert list(found) == ["gru/seed-1", "blind/seed-1", "gru/seed-2", "blind/seed-2"]
    assert len({result["outcome"]["CIDEr"] for result in found.values()}) > 1

    files = {file: file.stat().st_mtime_ns for file in output.rglob("*.*") if file.name != "table.md"}
    assert compare_variants.main([*command, "--output", str(output)]) == 0
    again = capsys.readouterr()
    assert (again.out, again.err) == (printed.out, "")
    assert {file: file.stat().st_mtime_ns for file in output.rglob("*.*") if file.name != "table.md"} == files

    model, data = output / "gru" / "seed-2" / "captioner.safetensors", shapes / "captions.jsonl"
    evaluate = ["evaluate", "--model", str(model), "--data", str(data), "--split", "val", "--beam-size", "3", "--json"]
    assert captioner_main(evaluate) == 0
    official = json.loads(capsys.readouterr().out)
    outcome = found["gru/seed-2"]["outcome"]
    assert outcome["images"] == official["images"] == PICTURES / 10
    for name in ("BLEU-4", "CIDEr"):
        assert outcome[name] == pytest.approx(official[name], abs=1e-6)


def test_an_interrupted_run_goes_on_to_the_same_end(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*command, "--seeds", "1", "--epochs", "3"]
    assert compare_variants.main([*command, "--output", str(tmp_path / "whole")]) == 0

    def interrupt(self: ScoreLines, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ScoreLines, "on_validation_end", interrupt)
        assert compare_variants.main([*command, "--output", str(tmp_path / "stopped")]) == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err
    assert results(tmp_path / "stopped")["gru/seed-1"]["outcome"] is None

    assert compare_variants.main([*command, "--output", str(tmp_path / "stopped")]) == 0
    epochs = [line.split(":")[0] for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert epochs == ["epoch 2", "epoch 3", "epoch 1", "epoch 2", "epoch 3"]
    found, expected = results(tmp_path / "stopped"), results(tmp_path / "whole")
    for name, result in expected.items():
        for score in ("BLEU-4", "CIDEr", "parameters"):
            assert found[name]["outcome"][score] == result["outcome"][score]
        one, other = (load_file(tmp_path / way / name / "captioner.safetensors") for way in ("stopped", "whole"))
        assert [key for key, value in other.items() if not torch.equal(value, one[key])] == []


def test_a_run_stopped_before_its_scores_is_not_trained_again(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "runs"
    command = [*command, "--seeds", "1", "--output", str(output)]
    assert compare_variants.main(command) == 0
    expected = results(output)
    unscored = results(output)
    unscored["blind/seed-1"]["outcome"] = None
    (output / "results.json").write_text(json.dumps(unscored))
    capsys.readouterr()
    assert compare_variants.main(command) == 0
    assert capsys.readouterr().err.splitlines() == ["blind/seed-1 (2 of 2)"]
    for name in ("BLEU-4", "CIDEr"):
        assert results(output)["blind/seed-1"]["outcome"][name] == expected["blind/seed-1"]["outcome"][name]


def test_a_run_that_fails_does_not_stop_the_others(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "variants.yaml").write_text("wrong: {model.decoder.cell: cgu}\nright: {}\n")
    assert compare_variants.main([*command, "--seeds", "1", "--output", str(tmp_path / "runs")]) == 1
    assert "wrong/seed-1: " in capsys.readouterr().err
    assert results(tmp_path / "runs")["right/seed-1"]["outcome"] is not None


def test_runs_of_another_plan_are_not_mixed_in(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "runs"
    output.mkdir()
    plan = {"config": "base.yaml 0", "arguments": [], "beam_size": 3}
    (output / "results.json").write_text(json.dumps({"gru/seed-1": {"plan": plan, "outcome": None}}))
    assert compare_variants.main([*command, "--output", str(output)]) == 2
    told = capsys.readouterr().err
    assert "gru/seed-1 was begun with another config (base.yaml 0); name another --output" in told
    assert told.count("\n") == 1


def test_damaged_results_are_told(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.json").write_text("{")
    assert compare_variants.main([*command, "--output", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "results.json: is damaged" in told
    assert told.count("\n") == 1


def test_the_table_has_mean_and_spread_and_the_best_first() -> None:
    def result(cider: float, rate: float, parameters: int) -> dict[str, Any]:
        rest = {"BLEU-4": 0.25, "images": 9, "parameters": parameters, "captions_per_second": rate}
        return {"plan": {}, "outcome": {"CIDEr": cider, **rest}}

    found = {
        "a/seed-1": result(0.5, 10, 1234567),
        "b/seed-1": result(0.6, 20, 7),
        "c/seed-1": {"plan": {}, "outcome": None},
        "b/seed-2": result(0.62, 30, 7),
    }
    assert table(found).splitlines()[2:] == [
        "| b | 61.0 ± 1.4 | 25.0 ± 0.0 | 2 | 7 | 25.0 ± 7.1 |",
        "| a | 50.0 | 25.0 | 1 | 1,234,567 | 10.0 |",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "variants.yaml: cannot be read: No such file"),
        ("a: [", "variants.yaml: is no YAML"),
        ("", "variants.yaml: names no variants"),
        ("../a: {}", "'../a' cannot be the name of a folder"),
        ("a: gru", "a changes 'gru'; write"),
    ],
)
def test_a_file_of_variants_of_no_use_is_told(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "variants.yaml").write_text(content)
    with pytest.raises(CaptionerError) as raised:
        read_variants(tmp_path / "variants.yaml")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_values_become_words_of_a_command_line(tmp_path: Path) -> None:
    (tmp_path / "variants.yaml").write_text("a: {b.c: true, d: 0.5, e: null, f: word, g: [1, x]}")
    written = ["--b.c", "true", "--d", "0.5", "--e", "null", "--f", "word", "--g", '[1, "x"]']
    assert read_variants(tmp_path / "variants.yaml") == {"a": written}


def test_the_shipped_variants_are_a_dozen_different_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CaptionerCLI, "instantiate_classes", lambda self: None)  # Flickr8k may not be here
    args = argparse.Namespace(config=FLICKR8K, variants=VARIANTS, seeds=[1], epochs=7, beam_size=3, output=Path("runs"))
    decoders = {}
    for run in planned(args, ["--data.images", "elsewhere"]):
        config = parse(["--config", str(FLICKR8K), *run.plan["arguments"]]).config
        assert config["trainer"]["max_epochs"] == config["early_stopping"]["patience"] == 7
        assert config["data"]["images"] == "elsewhere"
        assert config["data"]["feature_cache"]
        decoders[run.name] = tuple(sorted(vars(config["model"]["decoder"]).items()))
    assert len(decoders) == len(set(decoders.values())) == 12
