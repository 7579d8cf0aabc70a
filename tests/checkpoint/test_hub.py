"""Models named ``hf://owner/name``, against a server that speaks the Hub's protocol."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from hub_server import TOKEN, Hub, Repository
from processes import CAPTIONER, run

import captioner
from captioner import checkpoint as checkpoints
from captioner.cli import main
from captioner.errors import CaptionerError
from captioner.export.onnx_files import write_onnx
from captioner.pipeline import Captioner

OFFLINE = "huggingface_hub.constants.HF_HUB_OFFLINE"
TEMPLATE = "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again at once, as often as ever."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)


@pytest.fixture
def repository(hub: Hub, checkpoint: Path) -> Repository:
    """The small captioner as ``me/tiny``, beside a pickle, with the tag ``v1``."""
    repository = hub.repositories["me/tiny"] = Repository()
    commit = repository.commit({"model.safetensors": checkpoint.read_bytes(), "pytorch_model.bin": b"\x80\x04."})
    repository.refs["v1"] = commit
    return repository


def downloads(hub: Hub) -> list[str]:
    return [request for request in hub.requests if re.match("GET .*/resolve/", request)]


def test_a_model_is_opened_as_the_file_is(hub: Hub, repository: Repository, tiny: Captioner, photos: Path) -> None:
    expected = tiny.caption(photos / "0.png")
    assert captioner.load("hf://me/tiny").caption(photos / "0.png") == expected
    assert downloads(hub) == ["GET /me/tiny/resolve/main/model.safetensors"]
    for name in ("hf://me/tiny", "hf://me/tiny@v1", "hf://me/tiny/model.safetensors", Path("hf://me/tiny")):
        assert captioner.load(name).caption(photos / "0.png") == expected
    assert len(downloads(hub)) == 1, "what is in the cache is not downloaded again"


def test_a_revision_stays_what_it_was(repository: Repository, tiny: Captioner) -> None:
    repository.commit({"model.safetensors": b"another"})
    assert checkpoints.read("hf://me/tiny@v1").words == tuple(tiny.vocabulary.words)
    with pytest.raises(CaptionerError, match=r"model\.safetensors: is no safetensors file or was cut"):
        checkpoints.read("hf://me/tiny")


@pytest.mark.usefixtures("at_once")
def test_without_a_network_the_cache_is_used(
    hub: Hub, repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", "--model", "hf://me/tiny"]) == 0
    asked = list(hub.requests)
    monkeypatch.setattr(OFFLINE, True)
    assert main(["info", "--model", "hf://me/tiny"]) == 0
    capsys.readouterr()
    assert main(["info", "--model", "hf://me/other"]) == 2
    told = "captioner: hf://me/other: is not in the cache, and HF_HUB_OFFLINE is set; unset it\n"
    assert capsys.readouterr().err == told
    assert hub.requests == asked
    monkeypatch.setattr(OFFLINE, False)
    monkeypatch.setattr(TEMPLATE, "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}")
    assert main(["info", "--model", "hf://me/tiny"]) == 0
    assert main(["info", "--model", "hf://me/other"]) == 2
    told = "captioner: hf://me/other: the Hub cannot be reached, and it is not in the cache; check the network\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf://me/none", "there is no such repository, or it is private; check the name, or log in with hf auth login"),
        ("hf://me/private", "there is no such repository, or it is private; check the name, or log in"),
        ("hf://me/gated", "is gated; accept its terms on its page, then log in with hf auth login, or set HF_TOKEN"),
        ("hf://me/tiny@v9", "has no such revision; name a branch, a tag or a commit that it has"),
        ("hf://me/tiny/a.safetensors", "has no a.safetensors; name another file, as in hf://owner/name/FILE.safet"),
        ("hf://me/empty", "has no model.safetensors; name another file"),
        ("hf://me/tiny/pytorch_model.bin", "is no model that is opened from the Hub; name a .safetensors or .onnx"),
        ("hf://datasets/me/tiny", "is no model that is opened from the Hub"),
        ("hf://tiny", "is no name; write hf://owner/name or hf://owner/name@revision"),
        ("hf://", "is no name; write hf://owner/name"),
    ],
)
def test_a_model_that_cannot_be_had_is_told_in_one_line(
    name: str, message: str, hub: Hub, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    others = {"empty": Repository(), "private": Repository(private=True), "gated": Repository(gated=True)}
    for other, content in others.items():
        content.commit({"notes.txt": b"none"})
        hub.repositories[f"me/{other}"] = content
    assert main(["info", "--model", name]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"captioner: {name}: {message}")
    assert (out, err.count("\n")) == ("", 1)
    assert downloads(hub) == []


@pytest.mark.usefixtures("at_once")
def test_a_server_that_fails_is_told(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.broken = True
    assert main(["info", "--model", "hf://me/tiny"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("captioner: hf://me/tiny: the Hub ")
    assert err.count("\n") == 1


def test_a_private_model_is_opened_with_a_token(
    hub: Hub, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.private = True
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert checkpoints.read("hf://me/tiny").card["licence"] == "CC0"


def test_graphs_are_of_one_commit(hub: Hub, checkpoint: Path, tiny: Captioner, photos: Path, tmp_path: Path) -> None:
    write_onnx(tmp_path / "model.onnx", checkpoint)
    files = {name: (tmp_path / name).read_bytes() for name in ("model.onnx", "model.step.onnx")}
    repository = hub.repositories["me/tiny"] = Repository()
    commit = repository.commit(files)
    expected = tiny.caption(photos / "0.png")
    assert captioner.load("hf://me/tiny", backend="onnx").caption(photos / "0.png").words == expected.words
    assert captioner.load("hf://me/tiny/model.onnx").caption(photos / "0.png").words == expected.words
    assert downloads(hub) == [
        "GET /me/tiny/resolve/main/model.onnx",
        f"GET /me/tiny/resolve/{commit}/model.step.onnx",
    ]


def test_the_library_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    message = re.escape("hf://me/tiny needs huggingface_hub; run pip install 'captioner[hub]'")
    with pytest.raises(CaptionerError, match=message):
        captioner.load("hf://me/tiny")


def test_environment_variables_hold(hub: Hub, repository: Repository, photos: Path, tmp_path: Path) -> None:
    variables = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home")}
    command: list[str | Path] = [
        *CAPTIONER,
        "caption",
        photos / "0.png",
        "--model",
        "hf://me/tiny@v1",
        "--precision",
        "float32",
    ]
    first = run(command, capture_output=True, text=True, env=variables, cwd=Path(__file__).parents[2])
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    assert list((tmp_path / "home").rglob("model.safetensors"))
    variables |= {"HF_HUB_OFFLINE": "1"}
    again = run(command, capture_output=True, text=True, env=variables, cwd=Path(__file__).parents[2])
    assert (again.returncode, again.stdout, again.stderr) == (0, first.stdout, "")
