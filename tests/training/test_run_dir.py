"""A run's folder belongs to one run, and to one process at a time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import started
from test_interrupted_training import arguments, config, state  # noqa: F401 (a fixture)

from captioner.cli import main
from captioner.training.checkpointing import LAST, PREVIOUS, SaveOften
from captioner.training.run_dir import held

PICTURES = 40
FILE = "captioner.safetensors"


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_going_on_with_a_run_does_not_write_over_another(
    config: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        assert main(arguments(config, folder, "--trainer.max_epochs", "1")) == 0
    made = files(one)
    capsys.readouterr()
    assert main(arguments(config, one, "--resume", str(two / LAST))) == 2
    assert f"{one} has a run already: set resume to {one / LAST} to continue it" in capsys.readouterr().err
    assert files(one) == made
    assert main(arguments(config, one, "--resume", str(one / LAST), "--trainer.max_epochs", "1")) == 0


def test_two_runs_do_not_share_a_folder(
    config: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    holds = f"import sys, pathlib, captioner.training.run_dir as r\nwith r.held(pathlib.Path({str(folder)!r})):\n"
    command = [sys.executable, "-c", holds + "    print(flush=True); sys.stdin.read()"]
    with started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert main(arguments(config, folder)) == 2
        assert f"captioner: {folder}: another run is being written there; wait until" in capsys.readouterr().err
    assert main(arguments(config, folder, "--trainer.max_epochs", "1")) == 0


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path) -> None:
    half = tmp_path / f".{LAST}.abcdefgh.part"
    cache = tmp_path / ".features.safetensors.part"  # gone on with
    for file in (half, cache):
        file.write_bytes(b"half")
    with held(tmp_path):
        assert not half.exists()
        assert cache.exists()


def test_what_is_written_over_is_not_gone_on_with(
    config: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    assert main(arguments(config, folder, "--save_every_steps", "4")) == 0
    assert all((folder / name).exists() for name in (LAST, PREVIOUS, FILE))

    class KilledError(Exception):
        pass

    def kill(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(SaveOften, "on_train_batch_end", kill)
        with pytest.raises(KilledError):
            main(arguments(config, folder, "--overwrite", "true", "--seed_everything", "7"))
    assert main(arguments(config, folder, "--resume", str(folder / LAST), "--seed_everything", "7")) == 2
    assert f"{folder / LAST} to resume from: no such file" in capsys.readouterr().err


def test_a_run_that_was_moved_knows_its_best_epoch(config: Path, tmp_path: Path) -> None:  # noqa: F811
    folder, moved = tmp_path / "run", tmp_path / "moved"
    assert main(arguments(config, folder, "--trainer.max_epochs", "1")) == 0
    content = state(folder)
    for callback in content["callbacks"].values():
        if "best_k_models" in callback:  # better than what comes
            callback["best_model_score"] = torch.tensor(0.01)
            callback["best_k_models"] = dict.fromkeys(callback["best_k_models"], torch.tensor(0.01))
    torch.save(content, folder / LAST)
    best = (folder / "best.ckpt").read_bytes()
    shutil.move(folder, moved)
    assert main(arguments(config, moved, "--trainer.max_epochs", "2", "--resume", str(moved / LAST))) == 0
    assert (moved / "best.ckpt").read_bytes() == best
    [best_epoch] = [each for each in state(moved)["callbacks"].values() if each.get("best_k_models")]
    assert best_epoch["best_model_path"] == str(moved / "best.ckpt")
    assert not folder.exists()


@pytest.mark.parametrize("below", ["", "runs/one"])
def test_a_folder_that_cannot_be_made_is_told_with_the_option(
    config: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    below: str,
) -> None:
    file = tmp_path / "file"
    file.touch()
    assert main(arguments(config, file / below)) == 2
    [*_, line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"captioner: {file / below} cannot be written to (")
    assert line.endswith("); choose another folder as trainer.default_root_dir")
