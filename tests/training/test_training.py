"""Training through the real command line on a handful of generated pictures."""

from __future__ import annotations

import io
import math
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from training_runs import arguments, load_ckpt, run, small_config

import captioner
from captioner.cli import main
from captioner.training.optim import warmup_cosine
from captioner.training.run import parse

PICTURES = 40


@pytest.fixture
def config(shapes: Path, tmp_path: Path) -> dict[str, Any]:
    changes = {
        "trainer": {"default_root_dir": str(tmp_path / "run"), "gradient_clip_val": 5.0},
        "model": {"encoder": {"image_size": 64}, "decoder": {"dropout": 0.1}},
        "data": {"batch_size": 8},
    }
    return small_config(shapes / "captions.jsonl", changes)


def test_a_run_leaves_a_captioner_and_what_is_needed_to_go_on(
    config: dict[str, Any], tmp_path: Path, shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, tmp_path) == 0
    folder = tmp_path / "run"
    printed = capsys.readouterr()
    assert printed.out == f"{folder / 'captioner.safetensors'}\n"
    data, plan, *epochs = printed.err.splitlines()
    assert data.startswith("captioner: training images: ")
    assert plan.startswith("captioner: trains on cpu, ")
    # On a slow machine lines of progress stand between them.
    assert [line.split(":")[0] for line in epochs if ", step " not in line] == ["epoch 1", "epoch 2"]
    assert {"best.ckpt", "last.ckpt", "config.yaml", "tensorboard"} <= {path.name for path in folder.iterdir()}
    assert list((folder / "tensorboard").glob("events.*"))

    model = captioner.load(folder / "captioner.safetensors")
    caption = model.caption(shapes / "images" / "00000.jpg")
    assert set(caption.words) <= set(model.vocabulary.words)
    assert model.card["data"]["training images"] == 0.8 * PICTURES
    assert model.card["validation scores"].keys() >= {"BLEU-4", "CIDEr"}


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(config: dict[str, Any], tmp_path: Path) -> None:
    config["model"]["encoder"]["unfreeze_from"] = "blocks.2"
    config["data"]["crop"] = 0.9
    config["trainer"]["max_epochs"] = 3
    every_epoch = ["--checkpoint.save_top_k", "-1", "--checkpoint.filename", "{epoch}"]
    assert run(config, tmp_path, *every_epoch) == 0
    first = str(tmp_path / "run" / "epoch=0.ckpt")
    again = tmp_path / "again"
    assert run(config, tmp_path, "--trainer.default_root_dir", str(again), "--resume", first) == 0

    expected, found = load_ckpt(tmp_path / "run" / "last.ckpt"), load_ckpt(again / "last.ckpt")
    assert found["global_step"] == expected["global_step"] == 3 * PICTURES * 0.8 / 8
    assert [k for k, v in expected["state_dict"].items() if not torch.equal(v, found["state_dict"][k])] == []


@pytest.mark.parametrize("asked", ["bf16-mixed", "16-mixed", "bf16"])
def test_a_cpu_without_bfloat16_trains_in_float32_and_says_so(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: str
) -> None:
    config["trainer"] |= {"max_epochs": 1, "accelerator": "cpu"}
    assert run(config, tmp_path, "--trainer.precision", asked) == 0
    told = f"captioner: bfloat16 is slow on this CPU, as far as is known: trains in 32-true, not in {asked}\n"
    assert capsys.readouterr().err.startswith(told)
    asked_for = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert asked_for["trainer"]["precision"] == "32-true"


def test_a_cpu_with_bfloat16_trains_as_it_is_asked(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captioner.models.inference.has_fast_bfloat16", lambda: True)
    config["trainer"] |= {"accelerator": "cpu", "precision": "bf16-mixed"}
    assert parse(arguments(config, tmp_path)).trainer.precision == "bf16-mixed"


@pytest.mark.parametrize(("stage", "name"), [("blocks.2", "trunk.blocks.2"), ("projection", "projection")])
def test_only_what_is_trained_changes(config: dict[str, Any], tmp_path: Path, stage: str, name: str) -> None:
    config["model"]["encoder"] |= {"unfreeze_from": stage, "feature_size": 12}
    every_epoch = ["--checkpoint.save_top_k", "-1", "--checkpoint.filename", "{epoch}"]
    assert run(config, tmp_path, *every_epoch) == 0
    before, after = (load_ckpt(tmp_path / "run" / f"epoch={n}.ckpt")["state_dict"] for n in (0, 1))
    trained = ("model.decoder", f"model.encoder.{name}", "model.encoder.projection")
    for key, value in before.items():
        is_statistic = key.endswith(("running_mean", "running_var", "num_batches_tracked"))
        is_trained = key.startswith(trained) and not is_statistic
        assert torch.equal(value, after[key]) != is_trained, key


def test_cached_features_train_as_pixels_do(config: dict[str, Any], tmp_path: Path, shapes: Path) -> None:
    assert run(config, tmp_path) == 0
    cache = tmp_path / "features"
    cached = ["--trainer.default_root_dir", str(tmp_path / "cached"), "--data.feature_cache", str(cache)]
    assert run(config, tmp_path, *cached) == 0
    pixels, features = load_ckpt(tmp_path / "run" / "last.ckpt"), load_ckpt(tmp_path / "cached" / "last.ckpt")
    for name, value in pixels["state_dict"].items():
        # float16 rounds features by up to 2^-11; a dozen steps of Adam at 1e-3 carry that on.
        torch.testing.assert_close(features["state_dict"][name], value, rtol=0.05, atol=5e-3)


def test_word_vectors_start_the_embedding(config: dict[str, Any], tmp_path: Path) -> None:
    vectors = tmp_path / "glove.txt"
    words = {"circle": 2.5, "unheard": 1, "circle of friends": 1, ". . .": 1}
    vectors.write_text("".join(f"{word} {' '.join([str(value)] * 16)}\n" for word, value in words.items()))
    config["model"] |= {"start": {"word_vectors": str(vectors)}, "optimizer": {"learning_rate": 1e-9}}
    assert run(config, tmp_path) == 0
    model = captioner.load(tmp_path / "run" / "captioner.safetensors")
    embedding = model.model.decoder.members[0].embedding.weight
    torch.testing.assert_close(embedding[model.vocabulary.id("circle")], torch.full((16,), 2.5))
    assert embedding[model.vocabulary.id("square")].abs().max() <= 0.1 + 1e-6


def test_an_own_learning_rate_moves_the_encoder(config: dict[str, Any], tmp_path: Path) -> None:
    config["model"]["encoder"]["unfreeze_from"] = "all"
    config["model"]["optimizer"] = {"learning_rate": 1e-30, "encoder_learning_rate": 1e-3}
    every_epoch = ["--checkpoint.save_top_k", "-1", "--checkpoint.filename", "{epoch}"]
    assert run(config, tmp_path, *every_epoch) == 0
    before, after = (load_ckpt(tmp_path / "run" / f"epoch={n}.ckpt")["state_dict"] for n in (0, 1))
    moved = {name.split(".")[1] for name, value in before.items() if (value - after[name]).abs().max() > 1e-20}
    assert moved == {"encoder"}


@pytest.mark.parametrize(
    "overrides",
    [
        ["--model.decoder.attention", "none", "--model.decoder.cell", "gru"],
        ["--model.decoder.attention", "none", "--model.decoder.image_input", "every_step"],
        ["--model.decoder.attention", "multi_head", "--model.decoder.cell", "rnn"],
        ["--model.decoder.attention", "hard", "--model.noise.word_dropout", "0.2"],
        [
            "--model.decoder.attention",
            "adaptive",
            "--model.decoder.cell",
            "peephole",
            "--model.noise.feature_dropout",
            "0.3",
        ],
        ["--model.decoder.attention", "top_down", "--model.noise.scheduled_sampling", "0.5"],
        ["--model.decoder.layers", "2", "--model.decoder.variational_dropout", "true"],
    ],
    ids=lambda overrides: " ".join(overrides[1::2]),
)
def test_every_variant_trains_resumes_to_the_bit_and_writes_captions(
    config: dict[str, Any], tmp_path: Path, shapes: Path, overrides: list[str]
) -> None:
    every_epoch = ["--checkpoint.save_top_k", "-1", "--checkpoint.filename", "{epoch}"]
    assert run(config, tmp_path, *overrides, *every_epoch) == 0
    first = str(tmp_path / "run" / "epoch=0.ckpt")
    again = tmp_path / "again"
    assert run(config, tmp_path, *overrides, "--trainer.default_root_dir", str(again), "--resume", first) == 0
    expected, found = (load_ckpt(folder / "last.ckpt")["state_dict"] for folder in (tmp_path / "run", again))
    assert [name for name, value in expected.items() if not torch.equal(value, found[name])] == []
    begun = load_ckpt(Path(first))["state_dict"]
    learned = {name.rsplit(".", 1)[0] for name, value in expected.items() if not torch.equal(value, begun[name])}
    assert learned == {name.rsplit(".", 1)[0] for name in expected if not name.startswith("model.encoder")}
    photograph = shapes / "images" / "00000.jpg"
    assert len(captioner.load(again / "captioner.safetensors").caption(photograph, min_words=2).words) >= 2


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error, and nothing on standard output."""
    printed = capsys.readouterr()
    assert printed.out == ""
    usual = ("epoch ", "captioner: training images: ", "captioner: trains on ")
    lines = [line for line in printed.err.splitlines() if not line.startswith(usual)]
    assert len(lines) == 1, printed.err
    return lines[0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--model.layers", "2"], "there is no option --model.layers; did you mean "),
        (["--data.batch_size", "many"], "data.batch_size is many; give a whole number"),
        (["--model.encoder.name", "resnet19"], "encoder 'resnet19' is not supported"),
        (["--model.encoder.unfreeze_from", "layer9"], "lite0 has no stage 'layer9' to train from"),
        (["--data.captions", "[nowhere.json]"], "nowhere.json"),
        (["--data.min_count", "1000"], "no word of the training captions occurs 1000 times"),
        (["--data.batch_size", "0"], "data.batch_size is 0; it must be at least 1"),
        (["--resume", "nowhere.ckpt"], "checkpoint nowhere.ckpt to resume from: no such file"),
        (["--trainer.limit_val_batches", "0"], "trainer.limit_val_batches is 0, but the best epoch is chosen"),
        (["--data.workers", "-1"], "data.workers is -1; it must be at least 0"),
        (["--model.noise.word_dropout", "1.5"], "model.noise.word_dropout is 1.5; it must be at least 0 and at most 1"),
        (
            ["--model.noise.feature_dropout", "1"],
            "model.noise.feature_dropout is 1.0; it must be at least 0 and less than 1",
        ),
        (["--model.optimizer.learning_rate", "-1"], "model.optimizer.learning_rate is -1.0; it must be at least 0"),
        (["--trainer.gradient_clip_val", "-5"], "trainer.gradient_clip_val is -5; it must be at least 0"),
        (["--seed_everything", "-3"], "train: -3 is not in bounds"),
        (["--trainer.strategy", "bogus"], "train: "),
        (["--config", str(Path(__file__).parents[2] / "data" / "attention.png")], "a PNG image: give a configuration"),
        (["--trainer.overfit_batches", "1"], "trainer.overfit_batches would draw images in an order of its own; lower"),
        (["--trainer.max_epochs", "-1"], "the cosine schedule needs a training length; set"),
        (
            ["--trainer.accelerator", "gpu", "--trainer.devices", "99"],
            "trainer.accelerator is gpu, but there is",
        ),
        (
            ["--trainer.enable_checkpointing", "false"],
            "trainer.enable_checkpointing is false, but the best epoch becomes the captioner; leave it out",
        ),
        (["--early_stopping.monitor", "val/cider"], "early_stopping.monitor is 'val/cider'; choose one of val/loss, "),
        (["--checkpoint.monitor", "CIDEr"], "checkpoint.monitor is 'CIDEr'; choose one of val/loss, "),
        (["--checkpoint.mode", "min"], "checkpoint.mode is 'min', but of val/CIDEr the max is best; leave it out"),
        (["--early_stopping.mode", "foo"], "early_stopping.mode is 'foo', but of val/CIDEr the max is best; leave it"),
        (["--checkpoint.save_top_k", "3"], "checkpoint.save_top_k is 3, but all epochs would be called 'best'; set"),
        (["--checkpoint.save_top_k", "0"], "checkpoint.save_top_k is 0, but the best epoch becomes the captioner"),
        (["--checkpoint.filename", "last"], "checkpoint.filename is 'last', the newest epoch's; choose another"),
        (["--checkpoint.every_n_epochs", "-1"], "train: Invalid value for every_n_epochs=-1"),
        (["--trainer.default_root_dir", "null"], "trainer.default_root_dir is empty; name a folder for the run"),
        (["--trainer.accumulate_grad_batches", "0"], "trainer.accumulate_grad_batches is 0; it must be at least 1"),
        (["--config"], "train: argument -c/--config: expected one argument; captioner train --help lists"),
        (["--model.start.word_vectors", "nowhere.txt"], "word vectors nowhere.txt: no such file; check the path"),
        (["--model.encoder.unfreeze_from", "all", "--data.feature_cache", "f"], "data.feature_cache needs a frozen"),
        (["--trainer.max_steps", "3"], "training would end before the first validation, after 4 batches; raise"),
        (
            ["--trainer.check_val_every_n_epoch", "3"],
            "training would end before the first validation, after 12 batches",
        ),
        (["--trainer.val_check_interval", "9"], "val_check_interval` (9) must be less than or equal to the number of"),
        (["--trainer.precision", "bf16-true"], "trainer.precision bf16-true is not supported; choose bf16-mixed"),
        (["--trainer.logger", "MLFlowLogger"], "train: "),
        (
            ["--model.encoder.feature_size", "8"],
            "model.encoder.feature_size 8 is the length of a map that nothing would teach; set",
        ),
        (
            ["--model.encoder.feature_size", "0", "--model.encoder.unfreeze_from", "all"],
            "model.encoder.feature_size is 0; it must be at least 1",
        ),
        (
            ["--model.encoder", "{name: alexnet, last_stage: null, image_size: 32}"],
            "alexnet cannot read 32 × 32 pixels (",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_told_in_one_line(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], message: str
) -> None:
    assert run(config, tmp_path, *overrides) == 2
    assert message in refused(capsys)
    assert not (tmp_path / "run" / "captioner.safetensors").exists()


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        (
            [],
            ["--model.encoder.feature_size", "8", "--model.start.part", "encoder"],
            "a map that nothing would teach; set model",
        ),
        (
            ["--model.encoder.feature_size", "8", "--model.encoder.unfreeze_from", "projection"],
            [],
            "; set model.encoder.feature_size 8",
        ),
        (
            [],
            ["--model.encoder.feature_size", "8", "--model.encoder.unfreeze_from", "all"],
            "; set model.encoder.feature_size null",
        ),
    ],
    ids=["no map", "a map", "another"],
)
def test_a_start_with_feature_vectors_of_another_length_is_told_in_one_line(
    config: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    first: list[str],
    then: list[str],
    message: str,
) -> None:
    assert run(config, tmp_path, *first) == 0
    start = ["--model.start.checkpoint", str(tmp_path / "run" / "last.ckpt")]
    capsys.readouterr()
    assert run(config, tmp_path, *start, *then, "--trainer.default_root_dir", str(tmp_path / "next")) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("monitor", "mode"), [("val/loss", "min"), ("val/perplexity", "min"), ("val/CIDEr", "max"), ("val/BLEU-4", "max")]
)
def test_the_best_epoch_is_the_best_whatever_score_is_monitored(
    config: dict[str, Any], tmp_path: Path, monitor: str, mode: str
) -> None:
    options = ["--checkpoint.monitor", monitor, "--early_stopping.monitor", monitor]
    trainer = parse(arguments(config, tmp_path, *options)).trainer
    best, stop = trainer.checkpoint_callback, trainer.early_stopping_callback
    assert isinstance(best, ModelCheckpoint)
    assert isinstance(stop, EarlyStopping)
    assert (best.monitor, best.mode, stop.monitor, stop.mode) == (monitor, mode, monitor, mode)


def test_a_run_is_not_written_over_unasked(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config["trainer"]["max_epochs"] = 1
    assert run(config, tmp_path) == 0
    made = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    capsys.readouterr()
    assert run(config, tmp_path, "--model.optimizer.learning_rate", "0.1") == 2
    assert f"run has a run already: set resume to {tmp_path}/run/last.ckpt to continue it, set" in refused(capsys)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()} == made
    assert run(config, tmp_path, "--model.optimizer.learning_rate", "0.1", "--overwrite", "true") == 0
    assert (tmp_path / "run" / "captioner.safetensors").read_bytes() != made["captioner.safetensors"]
    capsys.readouterr()
    assert main(["train", "--config", str(tmp_path / "run" / "config.yaml")]) == 2
    assert "run has a run already" in refused(capsys)


def test_a_trial_run_of_one_batch_keeps_nothing(config: dict[str, Any], tmp_path: Path) -> None:
    [file] = config["data"].pop("captions")
    assert run(config, tmp_path, "--data.captions", file, "--trainer.fast_dev_run", "true") == 0
    assert not (tmp_path / "run").exists()


def test_an_unknown_key_of_the_file_is_told_in_one_line(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config["model"]["colour"] = "red"
    assert run(config, tmp_path) == 2
    assert "there is no field model.colour; did you mean " in refused(capsys)


def test_a_run_cannot_go_on_with_other_words(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, tmp_path) == 0
    capsys.readouterr()
    last = str(tmp_path / "run" / "last.ckpt")
    assert run(config, tmp_path, "--data.min_count", "20", "--resume", last) == 2
    assert "words, the data's vocabulary" in refused(capsys)


@pytest.mark.parametrize(
    "overrides", [[], ["--model.decoder.attention", "hard"], ["--model.noise.scheduled_sampling", "1"]], ids=str
)
def test_a_loss_that_is_not_finite_stops_the_run(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str]
) -> None:
    config["model"]["optimizer"] = {"learning_rate": 1e38}  # the first step makes products that float32 cannot hold
    assert run(config, tmp_path, *overrides) == 2
    told = refused(capsys)
    assert re.search(r"the loss of batch 1 of epoch 0 is (nan|inf)", told)
    assert f"look at its images: {config['data']['captions'][0].removesuffix('captions.jsonl')}images/000" in told


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [warmup_cosine(step, warmup=9, total=109) for step in range(110)]
    assert rates[:10] == pytest.approx([(n + 1) / 10 for n in range(10)])
    assert rates[59] == pytest.approx(0.5)
    assert rates[109] == pytest.approx(0)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert all(math.isfinite(rate) for rate in rates)


def test_a_log_that_breaks_ends_no_run(config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Broken())
        assert run(config, tmp_path) == 0
    assert (tmp_path / "run" / "captioner.safetensors").exists()
