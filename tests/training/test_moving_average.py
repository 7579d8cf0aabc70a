"""The moving average against its recursion, and that it is what is validated and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import training_runs
from make_shapes import write_shapes
from training_runs import small_config

import captioner
from captioner import checkpoint
from captioner.cli import main
from captioner.data.caption_files import read_records

DECAY = 0.3
STEPS = 4


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step an epoch, each with a checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    write_shapes(folder, 40, seed=1, size=64)
    changes = {
        "trainer": {"default_root_dir": str(folder), "max_epochs": STEPS},
        "model": {"optimizer": {"learning_rate": 1e-2, "ema": DECAY}},
        "data": {"batch_size": 32},
        "checkpoint": {"save_top_k": -1, "filename": "{epoch}", "monitor": "val/loss", "mode": "min"},
        "early_stopping": {"monitor": "val/loss", "mode": "min", "patience": 99},
    }
    assert training_runs.run(small_config(folder / "captions.jsonl", changes), folder) == 0
    return folder


def load(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(file, weights_only=True)
    return content


def test_the_average_is_that_of_its_recursion(run: Path) -> None:
    average: dict[str, torch.Tensor] = {}
    for step in range(STEPS):
        content = load(run / f"epoch={step}.ckpt")
        # The first step's weights begin it; the decay rises from 2/11 to the one that was asked for.
        decay = min(DECAY, (1 + step) / (10 + step)) if step else 0.0
        for name, value in content["current_model_state"].items():
            before = average.get(name, value).double()
            average[name] = decay * before + (1 - decay) * value.double()
            torch.testing.assert_close(content["state_dict"][name].double(), average[name], rtol=1e-5, atol=1e-7)
    assert not torch.equal(
        content["state_dict"]["model.decoder.embedding.weight"],
        content["current_model_state"]["model.decoder.embedding.weight"],
    )


def test_what_is_not_trained_stays_to_the_bit(run: Path) -> None:
    first, last = load(run / "epoch=0.ckpt"), load(run / f"epoch={STEPS - 1}.ckpt")
    frozen = [name for name in last["state_dict"] if name.startswith("model.encoder")]
    assert len(frozen) > 60
    assert [n for n in frozen if not torch.equal(last["state_dict"][n], first["current_model_state"][n])] == []


def test_the_average_is_what_is_validated_and_exported(run: Path, tmp_path: Path) -> None:
    newest = run / f"epoch={STEPS - 1}.ckpt"
    exported = tmp_path / "exported.safetensors"
    assert main(["export", str(newest), "--output", str(exported)]) == 0
    average = load(newest)["state_dict"]
    for name, value in checkpoint.read(exported).weights.items():
        assert torch.equal(value, average[f"model.{name}"])

    model = captioner.load(exported)
    val = [record for record in read_records(run / "captions.jsonl") if record.split == "val"]
    read = [caption for record in val for caption in model.score(record.image, record.captions)]
    words = sum(len(caption.words) + 1 for caption in read)  # END is one too
    loss = -sum(caption.log_probability for caption in read) / words
    card = checkpoint.read(exported).card
    assert card["validation scores"]["loss"] == pytest.approx(loss, abs=1e-4)
    assert card["training"]["moving average"] == DECAY


def test_a_run_cannot_go_on_without_its_average(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "train",
        "--config",
        str(run / "config.yaml"),
        "--resume",
        str(run / "last.ckpt"),
        "--model.optimizer.ema",
        "0",
    ]
    assert main(command) == 2
    assert (
        "the checkpoint to resume from has a moving average; use its own model.optimizer.ema" in capsys.readouterr().err
    )


@pytest.mark.parametrize("decay", ["1", "-0.5"])
def test_a_decay_that_is_none_is_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], decay: str
) -> None:
    root = ["--trainer.default_root_dir", str(tmp_path)]
    assert main(["train", "--config", str(run / "config.yaml"), "--model.optimizer.ema", decay, *root]) == 2
    assert f"model.optimizer.ema is {float(decay)}; it must be at least 0 and less than 1" in capsys.readouterr().err
