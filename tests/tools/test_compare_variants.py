"""tools/experiments/compare_variants.py on generated data: trained once, resumed where it stopped, told in a table."""

from __future__ import annotations

import argparse
import itertools
import json
import math
from pathlib import Path
from typing import Any

import compare_variants
import pytest
import torch
import yaml
from compare_variants import CONFIGS, planned, read_variants, table
from safetensors.torch import load_file
from training_runs import small_config

from captioner import checkpoint
from captioner.cli import main as captioner_main
from captioner.errors import CaptionerError
from captioner.models.efficientnet_lite import EfficientNetLite
from captioner.training.callbacks import ScoreLines
from captioner.training.run import CaptionerCLI, parse

PICTURES = 40
FLICKR8K = CONFIGS / "flickr8k.yaml"


@pytest.fixture(scope="module")
def shapes(shapes: Path) -> Path:
    torch.manual_seed(1)
    # Random weights would be others for each seed, and features have to be the same for all.
    torch.save(EfficientNetLite("tf_efficientnet_lite0").state_dict(), shapes / "lite0.pt")
    return shapes


@pytest.fixture
def command(shapes: Path, tmp_path: Path) -> list[str]:
    changes = {
        "trainer": {"gradient_clip_val": 5.0},
        "model": {
            "encoder": {"weights": str(shapes / "lite0.pt"), "image_size": 64},
            "optimizer": {"learning_rate": 1e-2},
        },
        "data": {"batch_size": 8, "feature_cache": str(shapes / "features.safetensors")},
    }
    config = small_config(shapes / "captions.jsonl", changes)
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(config))
    variants = {"gru": {"model.decoder.cell": "gru"}, "blind": {"model.decoder.attention": "none"}}
    (tmp_path / "variants.yaml").write_text(yaml.safe_dump(variants, sort_keys=False))
    files = ["--config", str(tmp_path / "base.yaml"), "--variants", str(tmp_path / "variants.yaml")]
    return [*files, "--epochs", "1", "--seeds", "1", "2"]


@pytest.fixture
def language_command(tmp_path: Path) -> list[str]:
    """The same for language models, that read numbers aloud."""
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{one} {other}\n" for one in range(20) for other in range(20)))
    config = {
        "task": "language_model",
        "trainer": {"gradient_clip_val": 1.0},
        "model": {
            "optimizer": {"learning_rate": 1e-2},
            "decoder": {"attention": "none", "image_input": "none", "embedding_size": 16, "hidden_size": 16},
        },
        "data": {"text": [str(text)], "min_count": 1, "batch_size": 4, "steps": 9},
    }
    (tmp_path / "language.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "ladder.yaml").write_text("plain: {}\ntied: {model.decoder.tied_embedding: true}\n")
    files = ["--config", str(tmp_path / "language.yaml"), "--variants", str(tmp_path / "ladder.yaml")]
    return [*files, "--epochs", "2", "--seeds", "1"]


@pytest.fixture
def without_instantiation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flickr8k and text may not be here."""
    monkeypatch.setattr(CaptionerCLI, "instantiate_classes", lambda self: None)


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
    name, data = capsys.readouterr().err.splitlines()
    assert name == "blind/seed-1 (2 of 2)"
    assert data.startswith("captioner: training images: 32, training captions: 32, ")
    for name in ("BLEU-4", "CIDEr"):
        assert results(output)["blind/seed-1"]["outcome"][name] == expected["blind/seed-1"]["outcome"][name]


def test_a_run_that_fails_does_not_stop_the_others(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "variants.yaml").write_text("wrong: {model.decoder.cell: cgu}\nright: {}\n")
    assert compare_variants.main([*command, "--seeds", "1", "--output", str(tmp_path / "runs")]) == 1
    assert "wrong/seed-1: " in capsys.readouterr().err
    assert results(tmp_path / "runs")["right/seed-1"]["outcome"] is not None


@pytest.mark.parametrize("unit", ["words", "characters"])
def test_language_models_are_told_by_their_perplexity(
    language_command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], unit: str
) -> None:
    output = tmp_path / "runs"
    command = [*language_command, "--data.unit", unit, "--output", str(output)]
    assert compare_variants.main(command) == 0
    printed = capsys.readouterr()
    told = [float(line.split("perplexity ")[1].split()[0]) for line in printed.err.splitlines() if "perplexity" in line]
    assert len(told) == 4
    for number, name in enumerate(("plain/seed-1", "tied/seed-1")):
        content = checkpoint.read(output / name / "language_model.safetensors")
        outcome = results(output)[name]["outcome"]
        assert content.config.unit == unit  # type: ignore[union-attr]
        assert outcome["perplexity"] == pytest.approx(min(told[2 * number : 2 * number + 2]), abs=1e-3)
        assert 2 ** outcome["bits"] == pytest.approx(outcome["perplexity"])
        assert outcome["parameters"] == sum(value.numel() for value in content.weights.values())
        assert outcome["tokens_per_second"] > 0

    files = {file: file.stat().st_mtime_ns for file in output.rglob("*.*") if file.name != "table.md"}
    assert compare_variants.main(command) == 0
    again = capsys.readouterr()
    assert (again.out, again.err) == (printed.out, "")
    assert {file: file.stat().st_mtime_ns for file in output.rglob("*.*") if file.name != "table.md"} == files


def test_a_language_model_whose_run_was_interrupted_goes_on_to_the_same_end(
    language_command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compare_variants.main([*language_command, "--output", str(tmp_path / "whole")]) == 0

    def interrupt(self: ScoreLines, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    stopped = [*language_command, "--output", str(tmp_path / "stopped")]
    with monkeypatch.context() as patch:
        patch.setattr(ScoreLines, "on_validation_end", interrupt)
        assert compare_variants.main(stopped) == 130
    assert compare_variants.main(stopped) == 0
    found, expected = (
        {n: r["outcome"]["perplexity"] for n, r in results(tmp_path / way).items()} for way in ("stopped", "whole")
    )
    assert found == expected


def test_captioners_and_language_models_are_not_put_into_one_table(
    command: list[str], language_command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = {"config": "base.yaml 0", "arguments": [], "beam_size": 3}
    for wrong, outcome in ((command, {"perplexity": 9.0}), (language_command, {"CIDEr": 0.5})):
        (tmp_path / "results.json").write_text(json.dumps({"other/seed-1": {"plan": plan, "outcome": outcome}}))
        assert compare_variants.main([*wrong, "--output", str(tmp_path)]) == 2
        assert "has runs of another task than" in capsys.readouterr().err


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
    assert table(found, "captioning").splitlines()[2:] == [
        "| b | 61.0 ± 1.4 | 25.0 ± 0.0 | 2 | 7 | 25.0 ± 7.1 |",
        "| a | 50.0 | 25.0 | 1 | 1,234,567 | 10.0 |",
    ]


def test_the_least_perplexity_is_the_best() -> None:
    def result(perplexity: float) -> dict[str, Any]:
        bits = math.log2(perplexity)
        outcome = {"perplexity": perplexity, "bits": bits, "parameters": 1234, "tokens_per_second": 5678.9}
        return {"plan": {}, "outcome": outcome}

    assert table({"a/seed-1": result(32), "b/seed-1": result(16.5)}, "language_model").splitlines() == [
        "| variant | perplexity | bits per token | seeds | decoder's parameters | tokens/s, training |",
        "| --- | --- | --- | --- | --- | --- |",
        "| b | 16.50 | 4.044 | 1 | 1,234 | 5,679 |",
        "| a | 32.00 | 5.000 | 1 | 1,234 | 5,679 |",
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


def configurations(base: str, variants: str) -> dict[str, Any]:
    """That of each variant of a shipped file, which has to keep to the budget and the user's options."""
    args = argparse.Namespace(
        config=CONFIGS / base,
        variants=CONFIGS / "sweeps" / variants,
        seeds=[1],
        epochs=7,
        beam_size=3,
        output=Path("runs"),
    )
    found = {}
    for run in planned(args, ["--data.batch_size", "9"]):
        config = parse(["--config", str(args.config), *run.plan["arguments"]]).config
        assert config["trainer"]["max_epochs"] == config["early_stopping"]["patience"] == 7
        assert config["data"]["batch_size"] == 9
        found[run.name.removesuffix("/seed-1")] = config
    return found


@pytest.mark.usefixtures("without_instantiation")
def test_the_shipped_captioners_are_different_decoders_of_equal_features() -> None:
    found = configurations("flickr8k.yaml", "variants.yaml").values()
    assert len(found) == len({tuple(sorted(vars(config["model"]["decoder"]).items())) for config in found}) == 13
    assert all(config["data"]["feature_cache"] for config in found)


@pytest.mark.usefixtures("without_instantiation")
def test_the_shipped_language_models_are_a_ladder_of_single_steps_and_other_cells() -> None:
    shipped = configurations("language_model.yaml", "language_variants.yaml")
    found = {name: vars(config["model"]["decoder"]) for name, config in shipped.items()}
    ladder = ["plain", "two_layers", "dropout", "tied", "variational"]
    steps = [*itertools.pairwise(ladder), ("plain", "rnn"), ("plain", "gru")]
    changes = {
        after: {key: value for key, value in found[after].items() if value != found[before][key]}
        for before, after in steps
    }
    assert found["plain"]["dropout"] == 0
    assert changes == {
        "two_layers": {"layers": 2},
        "dropout": {"dropout": found["dropout"]["dropout"]},
        "tied": {"tied_embedding": True},
        "variational": {"variational_dropout": True},
        "rnn": {"cell": "rnn"},
        "gru": {"cell": "gru"},
    }
    assert list(found) == [*ladder, "rnn", "gru"]
