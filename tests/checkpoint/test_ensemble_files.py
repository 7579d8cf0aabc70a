"""An ensemble in one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import WORDS, make_captioner
from safetensors.torch import load_file, save_file

import captioner
from captioner import checkpoint as checkpoints
from captioner.cli import main
from captioner.errors import CaptionerError
from captioner.pipeline import Captioner
from captioner.text.vocabulary import END, START
from captioner.training.objectives.distillation import Teachers


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three models of different kinds that share nothing but their words and part of their cards."""
    paths = []
    for seed, (attention, size) in enumerate([("soft", 64), ("multiplicative", 64), ("none", 96)], start=1):
        one = make_captioner(attention, size, seed=seed)
        paths.append(tmp_path / f"{seed}.safetensors")
        Captioner(one.model, one.vocabulary, {"data": "none", "seed": seed}).save(paths[-1])
    return paths


@pytest.fixture
def ensemble(files: list[Path], tmp_path: Path) -> Path:
    """The three in one file."""
    path = tmp_path / "ensemble.safetensors"
    assert main(["export", "--ensemble", *map(str, files), "--output", str(path)]) == 0
    return path


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def test_one_file_captions_as_its_members_files_do(files: list[Path], ensemble: Path, photos: Path) -> None:
    pictures = sorted(photos.iterdir())
    together = captioner.load(list(files)).caption(pictures, num_captions=2)
    assert captioner.load(ensemble).caption(pictures, num_captions=2) == together
    assert captioner.load(files[0]).caption(pictures, num_captions=2) != together


def test_every_weight_of_every_member_is_kept(files: list[Path], ensemble: Path) -> None:
    members = checkpoints.read_members(ensemble)
    for file, member in zip(files, members, strict=True):
        one = checkpoints.read(file)
        assert member.config == one.config
        assert member.weights.keys() == one.weights.keys()
        assert [name for name, value in one.weights.items() if not torch.equal(member.weights[name], value)] == []


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_cnn_that_all_have_is_kept_and_asked_once(dtype: str, photos: Path, tmp_path: Path) -> None:
    one, two = (make_captioner(seed=seed) for seed in (1, 2))
    two.model.encoder.load_state_dict(one.model.encoder.state_dict())
    files = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    for each, file in zip((one, two), files, strict=True):
        Captioner(each.model, each.vocabulary, {}).save(file, getattr(torch, dtype))
    both = tmp_path / "both.safetensors"
    assert main(["export", "--ensemble", *map(str, files), "--dtype", dtype, "--output", str(both)]) == 0

    names = set(load_file(both))
    assert {f"all.{name}" for name in load_file(files[0]) if name.startswith("encoder.")} == {
        name for name in names if "encoder." in name
    }
    assert {f"{n}.decoder.embedding.weight" for n in (0, 1)} < names
    pictures = sorted(photos.iterdir())
    model = captioner.load(both)
    apart = captioner.load(list(files))
    assert model.caption(pictures) == apart.caption(pictures) != captioner.load(files[0]).caption(pictures)
    asked: list[object] = []
    for encoder in {member.encoder for member in model._prepared}:
        encoder.register_forward_hook(lambda *given: asked.append(given))
    model.caption(pictures[0])
    assert len(asked) == 1


def test_an_ensemble_saves_itself_and_takes_more_members(files: list[Path], ensemble: Path, tmp_path: Path) -> None:
    captioner.load(list(files[:2])).save(tmp_path / "two.safetensors")
    again = tmp_path / "again.safetensors"
    given = [str(tmp_path / "two.safetensors"), str(files[2])]
    assert main(["export", "--ensemble", *given, "--output", str(again)]) == 0
    assert load_file(again).keys() == load_file(ensemble).keys()
    assert len(captioner.load([again, files[0]]).members) == 4


def test_the_card_holds_what_all_agree_on(ensemble: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["info", "--model", str(ensemble), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["data"], told["ensemble of models"], "seed" in told) == ("none", 3, False)
    assert [told[f"model {n}"]["decoder"]["attention"] for n in (1, 2, 3)] == ["soft", "multiplicative", "none"]
    assert told["model 3"]["preprocessing"]["size"] == 96
    assert told["parameters"] == sum(
        value.numel() for name, value in load_file(ensemble).items() if value.is_floating_point()
    )


def test_int8_holds_for_each_member(files: list[Path], ensemble: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.safetensors"
    assert main(["export", "--ensemble", str(ensemble), "--dtype", "int8", "--output", str(small)]) == 0
    for file, member in zip(files, checkpoints.read_members(small), strict=True):
        for name, value in checkpoints.read(file).weights.items():
            error = (member.weights[name] - value).abs().max()
            assert error <= value.abs().max() / 254 * 1.001, name
            assert error > 0 or value.ndim != 2 or not value.any(), name


def test_one_checkpoint_is_no_ensemble(files: list[Path], tmp_path: Path) -> None:
    one = tmp_path / "one.safetensors"
    assert main(["export", "--ensemble", str(files[0]), "--output", str(one)]) == 0
    assert checkpoints.read(one).card == {"data": "none", "seed": 1}


def test_its_members_teach_as_their_files_do(files: list[Path], tmp_path: Path) -> None:
    student = make_captioner(seed=9)
    captioner.load(list(files[:2])).save(tmp_path / "two.safetensors")
    pixels, captions = torch.randn(1, 3, 64, 64), torch.tensor([[[START, 4, 5, 6, END]]])
    one, two = (
        Teachers(given, student.model, student.vocabulary).distribution(pixels, torch.empty(0), captions)
        for given in (files[:2], [tmp_path / "two.safetensors"])
    )
    torch.testing.assert_close(one, two)


def test_a_mean_and_a_start_need_one_model(
    files: list[Path], ensemble: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    output = tmp_path / "mean.safetensors"
    message = refusal(["export", str(files[0]), str(ensemble), "--output", str(output)], capsys)
    assert f"checkpoint {ensemble}: is an ensemble of 3 models; give a file of one" in message
    assert not output.exists()
    assert "is an ensemble of 3 models" in refusal(["sample", "--model", str(ensemble)], capsys)


def test_models_with_other_words_are_not_put_into_one_file(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = checkpoints.read(files[0])
    words = (*WORDS[:-1], "other")
    other, output = tmp_path / "other.safetensors", tmp_path / "both.safetensors"
    checkpoints.write(other, checkpoints.Checkpoint(stranger.config, words, stranger.weights, {}))
    message = refusal(["export", "--ensemble", str(files[0]), str(other), "--output", str(output)], capsys)
    assert f"{files[0]} and checkpoint {other}: their words differ (15 and 15)" in message
    assert not output.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header["members"].clear(), ": is an ensemble of no models"),
        (lambda header: header["members"].append(header["members"][0]), ", model 4 of 4: lacks the weights "),
        (lambda header: header.pop("members"), ": its header lacks or misstates 'members'"),
        (lambda header: header.update(format=5), ": has format 5, this version reads 1 to 4"),
        (lambda header: header["members"][1]["decoder"].update(hidden_size=8), ", model 2 of 3: its weights decoder."),
    ],
    ids=["none", "one more", "no list", "newer", "other shape"],
)
def test_a_damaged_header_is_told(ensemble: Path, tmp_path: Path, change: Any, message: str) -> None:
    content = json.loads(_header(ensemble))
    change(content)
    path = tmp_path / "damaged.safetensors"
    save_file(load_file(ensemble), path, {checkpoints.METADATA_KEY: json.dumps(content)})
    with pytest.raises(CaptionerError) as caught:
        captioner.load(path)
    assert f"{path}{message}" in str(caught.value)


def _header(path: Path) -> str:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        header: str = file.metadata()[checkpoints.METADATA_KEY]
        return header
