"""The mean of several checkpoints, as `captioner export` writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import make_captioner

import captioner
from captioner import checkpoint as checkpoints
from captioner.checkpoint import Checkpoint
from captioner.checkpoint.merge import average
from captioner.cli import main
from captioner.data.transforms import Transform
from captioner.pipeline import Captioner

SEEDS = (1, 2, 3)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three models with one encoder and different decoders, which agree on some of their cards."""
    encoder = make_captioner().model.encoder.state_dict()
    paths = []
    for seed in SEEDS:
        one = make_captioner(seed=seed)
        one.model.encoder.load_state_dict(encoder)
        card = {"data": "none", "validation scores": {"CIDEr": seed}}
        paths.append(tmp_path / f"{seed}.safetensors")
        Captioner(one.model, one.vocabulary, card).save(paths[-1])
    return paths


def export(files: list[Path], output: Path) -> Checkpoint:
    assert main(["export", *map(str, files), "--output", str(output)]) == 0
    return checkpoints.read(output)


def test_each_weight_is_the_mean(files: list[Path], tmp_path: Path) -> None:
    found = export(files, tmp_path / "mean.safetensors").weights
    given = [checkpoints.read(file).weights for file in files]
    assert not torch.equal(given[0]["decoder.embedding.weight"], given[1]["decoder.embedding.weight"])
    for name, value in found.items():
        mean = torch.stack([each[name].double() for each in given]).mean(dim=0)
        torch.testing.assert_close(value.double(), mean, rtol=1e-5, atol=1e-6)


def test_what_all_share_stays_to_the_bit(files: list[Path], tmp_path: Path) -> None:
    found = export(files, tmp_path / "mean.safetensors").weights
    shared = [(name, value) for name, value in checkpoints.read(files[0]).weights.items() if "encoder" in name]
    assert len(shared) > 60
    assert [name for name, value in shared if not torch.equal(found[name], value)] == []


def test_the_card_holds_what_all_agree_on(files: list[Path], tmp_path: Path) -> None:
    card = export(files, tmp_path / "mean.safetensors").card
    assert card == {"data": "none", "mean of checkpoints": len(SEEDS)}


def test_the_mean_captions(files: list[Path], photos: Path, tmp_path: Path) -> None:
    export(files, tmp_path / "mean.safetensors")
    assert captioner.load(tmp_path / "mean.safetensors").caption(photos / "0.png").text


def test_one_checkpoint_is_itself(files: list[Path]) -> None:
    one = checkpoints.read(files[0])
    assert average([one]) is one


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda one: replace(one, words=(*one.words[:-1], "other")), "other words"),
        (lambda one: replace(one, config=replace(one.config, transform=Transform(32))), "another configuration"),
        (lambda one: replace(one, weights={**one.weights, "more": torch.zeros(1)}), "other tensors"),
    ],
)
def test_models_of_two_kinds_have_no_mean(
    files: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Checkpoint], Checkpoint],
    what: str,
) -> None:
    other = tmp_path / "other.safetensors"
    checkpoints.write(other, change(checkpoints.read(files[0])))
    assert main(["export", str(files[0]), str(other), "--output", str(tmp_path / "mean.safetensors")]) == 2
    message = capsys.readouterr().err
    assert f"{other}: has {what} than checkpoint {files[0]}" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "mean.safetensors").exists()


def test_a_checkpoint_given_twice_is_refused(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "link.safetensors"
    link.symlink_to(files[0])
    for again in (files[0], link):
        twice = [str(files[0]), str(files[1]), str(again)]
        assert main(["export", *twice, "--output", str(tmp_path / "mean.safetensors")]) == 2
        assert f"checkpoint {again}: is given twice" in capsys.readouterr().err


def test_no_checkpoint_is_replaced(files: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    before = files[1].read_bytes()
    assert main(["export", *map(str, files), "--output", str(files[1])]) == 2
    assert "would be replaced" in capsys.readouterr().err
    assert files[1].read_bytes() == before
