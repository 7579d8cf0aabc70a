"""Training on a GPU learns what training on the CPU learns, in both precisions, and goes on after an interruption."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from bench_training import make_captions
from conftest import WORDS, make_captioner
from gpu import NEEDS_GPU
from torch import Tensor
from training_runs import load_ckpt, run, small_config

from captioner import checkpoint
from captioner.models.decoder.config import Attention
from captioner.training.checkpointing import LAST, SaveOften
from captioner.training.objectives.words import word_loss

pytestmark = [*NEEDS_GPU, pytest.mark.usefixtures("exact_products")]

PICTURES = 40


@pytest.fixture(autouse=True)
def _deterministic_again() -> Iterator[None]:
    """Lightning sets it for the whole process."""
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def config(shapes: Path) -> dict[str, Any]:
    changes = {
        # Where no deterministic kernel exists, sums of another order differ in their last bits.
        "trainer": {"max_epochs": 3, "gradient_clip_val": 5.0, "deterministic": "warn"},
        "model": {
            "encoder": {"unfreeze_from": "blocks.2"},
            "optimizer": {"warmup_steps": 3, "learning_rate": 5e-3},
            "decoder": {"dropout": 0.0},
        },
        "data": {"batch_size": 6, "crop": 0.9},
        "checkpoint": {"monitor": "val/loss", "mode": "min"},
        "early_stopping": {"monitor": "val/loss", "mode": "min", "patience": 99},
    }
    return small_config(shapes / "captions.jsonl", changes)


def train(config: dict[str, Any], folder: Path, accelerator: str, *options: str) -> float:
    """The best validation loss of a run."""
    where = ["--trainer.accelerator", accelerator, "--trainer.devices", "1", "--trainer.default_root_dir", str(folder)]
    assert run(config, folder.parent, *where, *options) == 0
    loss: float = checkpoint.read(folder / "captioner.safetensors").card["validation scores"]["loss"]
    return loss


@pytest.mark.parametrize("attention", [each for each in get_args(Attention) if each != "hard"])
def test_a_training_step_has_the_gradients_of_the_cpu(attention: str) -> None:
    model = make_captioner(attention).model  # in evaluation mode, without dropout
    model.encoder.train_from("blocks.2")
    torch.manual_seed(2)
    images, captions = torch.randn(3, 3, 64, 64), make_captions(3, 2, len(WORDS))
    loss, expected = step(copy.deepcopy(model), images, captions)
    of_gpu, gradients = step(model.cuda(), images.cuda(), captions.cuda())
    assert of_gpu == pytest.approx(loss, rel=1e-4)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient.cpu(), expected[name], rtol=1e-2, atol=1e-4, msg=name)


def step(model: torch.nn.Module, images: Tensor, captions: Tensor) -> tuple[float, dict[str, Tensor]]:
    loss = word_loss(model(images, captions))
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    return float(loss.detach()), gradients


def test_a_run_learns_what_it_learns_on_the_cpu(config: dict[str, Any], tmp_path: Path) -> None:
    expected = train(config, tmp_path / "cpu", "cpu")
    assert train(config, tmp_path / "gpu", "gpu") == pytest.approx(expected, rel=0.05)
    half = train(config, tmp_path / "half", "gpu", "--trainer.precision", "bf16-mixed")
    assert half == pytest.approx(expected, rel=0.1)


def test_a_run_goes_on_from_within_an_epoch(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, kept = tmp_path / "run", tmp_path / "kept.ckpt"
    dropout = ["--model.decoder.dropout", "0.3"]
    save = SaveOften.on_train_batch_end

    def keep(self: SaveOften, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == 8:  # the newest checkpoint is of the step before, within the second epoch
            os.link(folder / LAST, kept)
        save(self, trainer, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(SaveOften, "on_train_batch_end", keep)
        train(config, folder, "gpu", "--save_every_steps", "1", *dropout)
    expected = load_ckpt(folder / LAST)
    train(config, tmp_path / "resumed", "gpu", "--resume", str(kept), *dropout)
    found = load_ckpt(tmp_path / "resumed" / LAST)
    assert found["global_step"] == expected["global_step"]
    for name, weights in expected["state_dict"].items():
        if weights.is_floating_point():  # a step with another dropout would move them by some 1e-3
            assert (found["state_dict"][name] - weights).abs().mean() < 1e-4, name
