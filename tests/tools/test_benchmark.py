"""The benchmarks run, at sizes too small to measure anything, and both beam searches agree."""

from __future__ import annotations

import json
from pathlib import Path

import benchmark
import pytest
import torch
import yaml
from training_runs import small_config

SMALL = "--images 2 --cells 5 --channels 6 --size 8 --vocabulary 40 --beam-size 3 --max-words 6 --repeats 1 --threads 1"


def test_decoding_is_measured_beside_the_textbook(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.set_num_threads", lambda threads: None)
    monkeypatch.setattr("sys.argv", ["benchmark.py", "decoding", *SMALL.split(), "--json"])
    benchmark.main()
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["images"] == 2
    ways = [row["way"] for row in outcome["rows"]]
    assert ways == [
        "textbook, float32",
        "captioner, float32, matrices as they lie",
        "captioner, float32",
        "captioner, bfloat16",
    ]
    assert outcome["rows"][0]["times textbook"] == 1


def test_a_table_has_its_columns_in_line() -> None:
    rows: list[benchmark.Row] = [{"way": "a", "images/s": 123.456}, {"way": "longer", "images/s": 1.0}]
    assert benchmark.table(rows).splitlines() == ["way     images/s", "a            123", "longer         1"]


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> list[str]:
    """What the rows of a section are called."""
    monkeypatch.setattr("torch.set_num_threads", lambda threads: None)
    monkeypatch.setattr("sys.argv", ["benchmark.py", *arguments, "--json"])
    benchmark.main()
    return [next(iter(row.values())) for row in json.loads(capsys.readouterr().out)["rows"]]


def test_a_training_step_is_measured_beside_the_textbooks_with_the_same_loss_and_gradients(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = "--images 2 --captions 3 --cells 5 --channels 6 --size 8 --vocabulary 40 --repeats 1"
    names = run(monkeypatch, capsys, ["training", *small.split()])
    assert names == [
        "textbook, float32",
        "captioner, float32",
        "limit: matrix products alone, float32",
        "textbook, bfloat16",
        "captioner, bfloat16",
        "limit: matrix products alone, bfloat16",
        "Adam's step, beside each",
    ]


def test_a_folder_is_measured_beside_its_limits(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run(monkeypatch, capsys, ["folder", "--images", str(photos), "--beam-size", "1", "--repeats", "1"])
    assert names == [
        "image by image, float32",
        "limit: decoding the files",
        "limit: decoding and the CNN",
        "captioner, files decoded at full scale",
        "captioner",
    ]


@pytest.mark.slow
def test_a_server_is_measured_beside_its_targets(
    photos: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--images", str(photos), "--model", str(checkpoint), "--seconds", "1", "--requests", "40"]
    small += ["--rounds", "2"]
    monkeypatch.setattr("torch.set_num_threads", lambda threads: None)
    monkeypatch.setattr("bench_serve.WARM_UP", 0)
    monkeypatch.setattr("sys.argv", ["benchmark.py", "serve", *small, "--precision", "float32", "--json"])
    benchmark.main()
    outcome = json.loads(capsys.readouterr().out)
    assert [row["way"] for row in outcome["rows"]] == [
        *("folder", "single captions", "1 connection", "8 connections", "32 connections"),
        *("first requests", "many requests", "SIGTERM"),
    ]
    assert all(row["answers"] > 0 for row in outcome["rows"][2:])
    *ratios, failed = outcome["targets"]
    assert [each["wanted"] for each in ratios] == ["at least 0.8", "at most 1.3", "at most 1.05"]
    assert failed == {"target": "answers that are wrong or lost", "wanted": "0", "found": 0, "met": "yes"}


def test_the_feature_cache_is_measured_beside_the_cnn(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run(monkeypatch, capsys, ["features", "--images", str(photos), "--reads", "10"])
    assert names[:3] == ["limit: the CNN alone", "image by image", "captioner"]
    assert len(names) == 5


def test_fine_tuning_is_measured_beside_timm_with_the_same_gradients(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = "--images 2 --size 64 --stage blocks.5 --repeats 1"
    names = run(monkeypatch, capsys, ["fine_tuning", *small.split()])
    assert names == [
        "timm, float32",
        "captioner, float32",
        "timm, bfloat16",
        "captioner, bfloat16",
        "limit: forward alone, bfloat16",
    ]


@pytest.mark.slow
def test_training_on_shards_is_measured_with_its_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = "--count 60 --steps 3 --batch-size 4 --workers 1 --step-seconds 0.01"
    assert run(monkeypatch, capsys, ["shards", *small.split()])[2:] == [
        "first batch, s",
        "wait for a batch, median, s",
        "wait for a batch, longest, s",
        "memory of this process, GB",
        "memory with its loaders, GB",
    ]


@pytest.mark.slow
def test_growth_is_measured_at_three_sizes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small = "--captions 400 --candidates 40 --features 40"
    names = run(monkeypatch, capsys, ["size", *small.split()])
    works = ["captions counted", "candidates scored", "features opened, 1,000 read"]
    assert names == [work for work in works for _ in range(3)]


@pytest.mark.slow
def test_what_a_gpu_is_measured_at_runs_on_a_cpu(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_config(tmp_path / "of the section")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    small = "--device cpu --no-compile --count 3 --batch-size 2 --beam-size 1 --repeats 1 --pictures 120 --steps 3"
    small += " --warm-up 1 --workers 0"
    files = ["--model", str(checkpoint), "--config", str(tmp_path / "config.yaml")]
    names = run(monkeypatch, capsys, ["gpu", *small.split(), *files])
    ways = ["captions", "captions, files decoded beside the network", "limit: decoding the files", "limit: the CNN"]
    ways.append("the CNN, channels first")
    training = [f"training by config.yaml, {precision}" for precision in ("32-true", "bf16-mixed")]
    assert names == [f"{way}, {precision}" for precision in ("float32", "bfloat16") for way in ways] + training


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_section_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.set_num_threads", lambda threads: None)
    monkeypatch.setattr("sys.argv", ["benchmark.py", "gpu"])
    with pytest.raises(SystemExit, match="there is no GPU here"):
        benchmark.main()
