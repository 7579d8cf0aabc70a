"""A virtual environment as ``pip install .`` makes it: captions are those of torch, which it does not have."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
from environments import COMMAND, ROOT, Environment
from hub_server import Repository, serving
from processes import started

import captioner
from captioner.export.onnx_files import write_onnx

SAMPLES = ROOT / "data" / "samples"
PHOTO = SAMPLES / "rocket.jpg"
LARGEST = 250_000_000
"""Bytes of the environment, pip included."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    made = Environment(tmp_path_factory.mktemp("without_torch"))
    made.install(str(made.source))
    return made


def test_the_environment_is_small_and_has_no_torch(environment: Environment) -> None:
    files = [path for path in environment.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(path.stat().st_size for path in files) <= LARGEST
    program = "import importlib.util as u; print([n for n in ('torch', 'matplotlib', 'safetensors') if u.find_spec(n)])"
    done = subprocess.run([environment.python, "-c", program], capture_output=True, text=True, timeout=COMMAND)
    assert done.stdout == "[]\n"


def test_captions_pages_and_sidecars_are_those_of_torch(environment: Environment, tmp_path: Path) -> None:
    photographs = sorted(SAMPLES.glob("*.jpg"))
    expected = captioner.load(backend="torch").caption(list(photographs))
    done = environment.run("captioner", "caption", "--json", *map(str, photographs))
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["caption"] for each in told] == [each.text for each in expected]
    for each, caption in zip(told, expected, strict=True):
        assert each["log_probability"] == pytest.approx(caption.log_probability, abs=1e-3)
        assert each["confidence"] == (caption.confidence and pytest.approx(caption.confidence, abs=1e-3))
    page, of_photo = tmp_path / "page.html", expected[photographs.index(PHOTO)]
    assert environment.run("captioner", "visualize", str(PHOTO), "--output", str(page)).returncode == 0
    assert of_photo.text in page.read_text()
    shutil.copy(PHOTO, tmp_path)
    done = environment.run("captioner", "write", str(tmp_path / PHOTO.name), "--as", "txt", "--as", "embedded")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "rocket.txt").read_text().strip() == of_photo.text


def test_facts_and_scores_need_no_torch(environment: Environment, tmp_path: Path) -> None:
    done = environment.run("captioner", "info", "--json")
    assert json.loads(done.stdout)["words"] == len(captioner.load(backend="onnx").vocabulary)
    references = {"images": [{"id": 1}], "annotations": [{"id": 1, "image_id": 1, "caption": "A dog runs."}]}
    (tmp_path / "references.json").write_text(json.dumps(references))
    (tmp_path / "candidates.json").write_text('[{"image_id": 1, "caption": "a dog runs"}]')
    files = ["--references", str(tmp_path / "references.json"), "--candidates", str(tmp_path / "candidates.json")]
    done = environment.run("captioner", "score", *files, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["BLEU-1"] == pytest.approx(1, abs=1e-6)


def test_what_needs_more_says_what_to_install(environment: Environment, checkpoint: Path, tmp_path: Path) -> None:
    for command in (
        ["caption", str(PHOTO), "--model", str(checkpoint)],
        ["visualize", str(PHOTO), "--output", str(tmp_path / "sheet.png")],
        ["train", "--config", "none.yaml"],
        ["export", "--output", str(tmp_path / "model.onnx")],
    ):
        done = environment.run("captioner", *command)
        assert done.returncode == 2
        assert "pip install 'captioner[train]'" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_cluster_needs_its_packages(environment: Environment, tmp_path: Path) -> None:
    done = environment.run("captioner", "caption", str(PHOTO), "--engine", "ray", "--output", str(tmp_path / "out"))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "pip install 'captioner[ray]'" in done.stderr


def test_the_server_needs_no_torch(environment: Environment) -> None:
    assert "pip install 'captioner[serve]'" in environment.run("captioner", "serve", "--port", "0").stderr
    environment.install(f"{environment.source}[serve]")
    expected = captioner.load(backend="torch").caption(PHOTO)
    command: list[str | Path] = [environment.folder / "bin" / "captioner", "serve", "--port", "0"]
    with started(command, stderr=subprocess.PIPE, text=True, cwd=environment.folder) as process:
        assert process.stderr is not None
        address = process.stderr.readline().split("serving at ")[1].strip()
        answer = httpx.post(f"{address}/caption", content=PHOTO.read_bytes(), timeout=COMMAND)
        assert answer.json()["caption"] == expected.text
        assert httpx.get(address, timeout=COMMAND).status_code == 200


def test_models_of_the_hub_need_no_torch(
    environment: Environment, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_onnx(tmp_path / "model.onnx", checkpoint)
    command = ["captioner", "caption", str(PHOTO), "--model", "hf://me/tiny"]
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        repository = hub.repositories["me/tiny"] = Repository()
        repository.commit({file.name: file.read_bytes() for file in tmp_path.glob("*.onnx")})
        assert "pip install 'captioner[hub]'" in environment.run(*command).stderr
        environment.install(f"{environment.source}[hub]")
        done = environment.run(*command)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{PHOTO}\t{captioner.load(checkpoint).caption(PHOTO).text}\n"
