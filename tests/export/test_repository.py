"""A model as a repository of the Hub: files, card and upload, against a server that speaks its protocol."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_server import TOKEN, Hub

import captioner
from captioner import checkpoint as checkpoints
from captioner.cli import main
from captioner.models.decoder import DecoderConfig
from captioner.models.language_model import LanguageConfig, LanguageModel
from captioner.pipeline import Captioner
from captioner.text.vocabulary import SPECIAL_WORDS

FILES = {"README.md", "model.onnx", "model.safetensors", "model.step.onnx"}


@pytest.fixture
def language_model(tmp_path: Path) -> Path:
    """A language model with random weights."""
    words = (*SPECIAL_WORDS, "a", "dog")
    config = LanguageConfig(DecoderConfig(attention="none", image_input="none", embedding_size=8, hidden_size=8))
    weights = LanguageModel(config, len(words)).state_dict()
    checkpoints.write(tmp_path / "lm.safetensors", checkpoints.Checkpoint(config, words, weights, {}))
    return tmp_path / "lm.safetensors"


def metadata(card: str) -> dict[str, Any]:
    """What stands in YAML before a card."""
    _, front, _ = card.split("---\n", 2)
    content: dict[str, Any] = yaml.safe_load(front)
    return content


def test_what_is_pushed_is_opened_and_captions_as_before(
    hub: Hub,
    checkpoint: Path,
    tiny: Captioner,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert main(["push", str(checkpoint), "me/tiny", "--private"]) == 0
    assert capsys.readouterr().out == f"{hub.address}/me/tiny\n"
    repository = hub.repositories["me/tiny"]
    assert repository.private
    files = repository.commits[repository.refs["main"]]
    assert files.keys() - {".gitattributes"} == FILES
    assert files["model.safetensors"] == checkpoint.read_bytes()
    expected = tiny.caption(photos / "0.png")
    assert captioner.load("hf://me/tiny").caption(photos / "0.png") == expected
    assert captioner.load("hf://me/tiny", backend="onnx").caption(photos / "0.png").words == expected.words


def test_what_is_there_already_gets_another_commit(
    hub: Hub, language_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert main(["push", str(language_model), "me/lm"]) == 0
    repository = hub.repositories["me/lm"]
    assert not repository.private
    before = repository.refs["main"]
    assert main(["push", str(language_model), "me/lm"]) == 0
    assert repository.refs["main"] != before
    assert repository.commits[repository.refs["main"]] == repository.commits[before]


def test_the_card_tells_the_hub_what_the_checkpoint_tells(tiny: Captioner, tmp_path: Path) -> None:
    tiny_card = {
        "licence": "Apache-2.0",
        "data": {"files": ["mine.jsonl"]},
        "validation scores": {"CIDEr": 0.5, "loss": 3.25},
        "test scores": {"Some set, 3 images": {"images": "3", "BLEU-4": 0.25, "95 % intervals": {"BLEU-4": [0, 1]}}},
    }
    model = Captioner(tiny.model, tiny.vocabulary, tiny_card)
    (tmp_path / "run").mkdir()
    model.save(tmp_path / "run" / "captioner.safetensors")
    assert main(["push", str(tmp_path / "run"), "me/tiny", "--to", str(tmp_path / "there")]) == 0
    assert {file.name for file in (tmp_path / "there").iterdir()} == FILES
    card = (tmp_path / "there" / "README.md").read_text()
    found = metadata(card)
    [index] = found.pop("model-index")
    assert found == {
        "license": "apache-2.0",
        "library_name": "captioner",
        "pipeline_tag": "image-to-text",
        "tags": ["captioner", "image-captioning", "onnx"],
        "metrics": ["bleu", "cider", "loss"],
    }
    assert index["name"] == "tiny"
    told = {
        (each["dataset"]["name"], each["dataset"]["split"], metric["name"], metric["value"])
        for each in index["results"]
        for metric in each["metrics"]
    }
    assert told == {
        ("Some set, 3 images", "test", "BLEU-4", 0.25),
        ("validation data", "validation", "CIDEr", 0.5),
        ("validation data", "validation", "loss", 3.25),
    }
    for part in ("# me/tiny", "## Training data", "mine.jsonl", "hf://me/tiny", "- words: 15"):
        assert part in card


def test_text_of_a_card_cannot_change_its_metadata(language_model: Path, tmp_path: Path) -> None:
    wild = "---\nlicense: mit\n---\n"
    content = checkpoints.read(language_model)
    card = {"licence": wild, "test scores": {wild: {wild: 1.5}}}
    checkpoints.write(tmp_path / "wild.safetensors", replace(content, card=card))
    assert main(["push", str(tmp_path / "wild.safetensors"), "me/lm", "--to", str(tmp_path / "there")]) == 0
    found = metadata((tmp_path / "there" / "README.md").read_text())
    assert found["license"] == "other"
    assert found["model-index"][0]["results"][0]["metrics"][0]["value"] == 1.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{checkpoint}", "tiny"], "repository tiny: is no name on the Hub; write owner/name"),
        (["{checkpoint}", "a/b/c"], "repository a/b/c: is no name on the Hub; write owner/name"),
        (["{folder}", "me/tiny"], "{folder}: has 0 .safetensors files; name the checkpoint that is meant"),
        (["{folder}/none.ckpt", "me/tiny"], "checkpoint {folder}/none.ckpt: no such file; check the path"),
        (["{checkpoint}", "me/tiny", "--to", "{folder}"], "{folder}: is there, and not empty; name a new folder"),
        (["{checkpoint}", "me/tiny", "--to", "x", "--private"], "--private is for a repository that is created"),
    ],
)
def test_what_cannot_be_pushed_is_told_in_one_line(
    arguments: list[str], message: str, hub: Hub, checkpoint: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"checkpoint": checkpoint, "folder": photos}
    assert main(["push", *(each.format(**names) for each in arguments)]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"captioner: {message.format(**names)}")
    assert (out, err.count("\n"), hub.requests) == ("", 1, [])


def test_a_language_model_is_pushed_without_graphs(language_model: Path, tmp_path: Path) -> None:
    assert main(["push", str(language_model), "me/lm", "--to", str(tmp_path / "there")]) == 0
    assert {file.name for file in (tmp_path / "there").iterdir()} == {"README.md", "model.safetensors"}
    card = (tmp_path / "there" / "README.md").read_text()
    assert metadata(card)["pipeline_tag"] == "text-generation"
    assert "captioner sample --model hf://me/lm" in card


@pytest.mark.parametrize("token", [None, "hf_of_another"])
def test_who_may_not_write_is_told(
    token: str | None,
    hub: Hub,
    language_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    assert main(["push", str(language_model), "me/lm"]) == 2
    told = "captioner: me/lm: the Hub refuses this account; log in with hf auth login, or set HF_TOKEN, with a token"
    err = capsys.readouterr().err
    assert err.startswith(told)
    assert err.count("\n") == 1
    assert hub.repositories == {}
