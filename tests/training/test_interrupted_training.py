"""Training that is killed at any step ends as if it had not been."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning
import pytest
import safetensors.torch
import torch
import yaml
from processes import CAPTIONER, LONGEST, run, started, wait_until
from training_runs import kill_at_random, small_config

from captioner.cli import main
from captioner.errors import CaptionerError
from captioner.training.checkpointing import LAST, PREVIOUS, SaveOften, newest_whole
from captioner.training.module import CaptioningModule

PICTURES = 40
KILLS = 12


@pytest.fixture
def config(shapes: Path, tmp_path: Path) -> Path:
    changes = {
        "trainer": {"max_epochs": 3, "gradient_clip_val": 5.0},
        "model": {
            "encoder": {"unfreeze_from": "blocks.2"},
            "optimizer": {"warmup_steps": 3, "learning_rate": 5e-3},
            "decoder": {"dropout": 0.3},
        },
        "data": {"batch_size": 6, "crop": 0.9, "max_captions": 1},
        "checkpoint": {"monitor": "val/loss", "mode": "min"},
        "early_stopping": {"monitor": "val/loss", "mode": "min", "patience": 2},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(small_config(shapes / "captions.jsonl", changes)))
    return file


def arguments(config: Path, folder: Path, *more: str) -> list[str]:
    return ["train", "--config", str(config), "--trainer.default_root_dir", str(folder), *more]


def state(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / LAST, weights_only=True)
    return content


def assert_equal_runs(found: Path, expected: Path) -> None:
    """Weights, the optimiser's moments, the schedule and the best score, to the bit."""
    one, other = state(found), state(expected)
    assert one["global_step"] == other["global_step"]
    assert one.keys() == other.keys()
    for part in {"state_dict", "current_model_state", "averaging_state"} & other.keys():
        assert [k for k, v in other[part].items() if not torch.equal(v, one[part][k])] == []
    torch.testing.assert_close(one["optimizer_states"], other["optimizer_states"], rtol=0, atol=0)
    assert one["lr_schedulers"] == other["lr_schedulers"]
    for name, callback in other["callbacks"].items():
        for key in ("best_model_score", "best_score", "wait_count"):
            assert one["callbacks"][name].get(key) == callback.get(key), (name, key)
    best, wanted = (safetensors.torch.load_file(folder / "captioner.safetensors") for folder in (found, expected))
    assert [name for name, value in wanted.items() if not torch.equal(value, best[name])] == []


@pytest.mark.slow
def test_killed_at_random_moments_a_run_ends_with_equal_weights(config: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = run([*CAPTIONER, *arguments(config, whole)], env=environment)
    assert done.returncode == 0
    command = arguments(config, killed, "--save_every_steps", "1")
    again = kill_at_random(KILLS, 0.3, 1.2, "captioner.training.run", command, last=killed / LAST)
    done = run(again, 10 * LONGEST, env=environment, stdout=subprocess.PIPE)
    assert done.returncode == 0
    assert int(done.stdout.split()[-1]) >= 3
    assert_equal_runs(killed, whole)


@pytest.mark.parametrize(
    ("workers", "options"),
    [
        ("0", []),
        ("2", []),
        ("0", ["--model.optimizer.ema", "0.9"]),
        ("1", ["--trainer.limit_train_batches", "3", "--trainer.max_epochs", "5"]),
    ],
    ids=["alone", "workers", "averaged", "short epochs"],
)
def test_a_run_goes_on_from_any_step(
    config: Path, tmp_path: Path, workers: str, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    kept: list[Path] = []
    save = SaveOften.on_train_batch_end

    def keep(self: SaveOften, trainer: Any, *rest: Any) -> None:
        if trainer.global_step in (3, 7, 9, 14):  # the newest checkpoint is of the step before
            kept.append(tmp_path / f"before-{trainer.global_step}.ckpt")
            os.link(whole / LAST, kept[-1])
        save(self, trainer, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(SaveOften, "on_train_batch_end", keep)
        assert main(arguments(config, whole, "--save_every_steps", "1", *options)) == 0
    assert len(kept) == 4
    expected = tmp_path / "expected"
    shutil.copytree(whole, expected)
    for checkpoint in kept:
        more = ["--resume", str(checkpoint), "--data.workers", workers, *options]
        shutil.rmtree(whole)
        assert main(arguments(config, whole, *more)) == 0
        assert_equal_runs(whole, expected)


def test_a_damaged_checkpoint_is_recognized_and_the_previous_is_used(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert main(arguments(config, whole)) == 0
    assert main(arguments(config, folder)) == 0
    good = (folder / LAST).read_bytes()
    previous = (folder / PREVIOUS).read_bytes()
    weights = next(value for value in state(folder)["state_dict"].values() if value.ndim == 2)
    middle = good.index(weights.numpy().tobytes())
    entry = good.index(b"PK\1\2")  # of the archive's directory; its flags and its method of compression follow
    for damaged in (
        good[:-1],
        good[:middle],
        b"",
        *(
            good[:place] + bytes([good[place] ^ bit]) + good[place + 1 :]
            for place, bit in ((middle, 1), (entry + 8, 1), (entry + 10, 8))
        ),
    ):
        (folder / LAST).write_bytes(damaged)
        assert newest_whole(folder / LAST) == folder / PREVIOUS
        assert f"{folder / LAST} is missing or damaged" in capsys.readouterr().err
    (folder / LAST).unlink()
    assert newest_whole(folder / LAST) == folder / PREVIOUS
    assert main(arguments(config, folder, "--resume", str(folder / LAST))) == 0
    assert_equal_runs(folder, whole)
    for name in (LAST, PREVIOUS):
        (folder / name).write_bytes(previous[:100])
    with pytest.raises(CaptionerError, match="is damaged or truncated; start a new run or give another"):
        newest_whole(folder / LAST)


def test_within_an_epoch_a_run_goes_on_in_batches_of_their_size_alone(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    kept: list[Path] = []
    save = SaveOften.on_train_batch_end

    def keep(self: SaveOften, trainer: Any, *rest: Any) -> None:
        if trainer.global_step in (3, 7):  # the newest checkpoint is of the second step, and of the first epoch's end
            kept.append(folder / f"before-{trainer.global_step}.ckpt")
            os.link(folder / LAST, kept[-1])
        save(self, trainer, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(SaveOften, "on_train_batch_end", keep)
        assert main(arguments(config, folder, "--save_every_steps", "2")) == 0
    within, after = kept
    written = (folder / "config.yaml").read_text()
    for options in (["--data.batch_size", "12"], ["--data.batch_size", "3"]):
        assert main(arguments(config, folder, "--resume", str(within), *options)) == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert f"is within an epoch of 6 images a step, not of {options[1]}; resume with its data.batch_size" in told
        assert (folder / "config.yaml").read_text() == written
    assert main(arguments(config, folder, "--resume", str(after), "--data.batch_size", "12")) == 0


def test_where_no_file_can_have_two_names_the_previous_checkpoint_is_a_copy(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("captioner.training.checkpointing.os.link", refuse)
    assert main(arguments(config, tmp_path)) == 0
    last, previous = (torch.load(tmp_path / name, weights_only=True) for name in (LAST, PREVIOUS))
    assert 0 < previous["global_step"] < last["global_step"]


def test_a_checkpoint_to_resume_from_is_not_unpickled(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    torch.save({"state_dict": {}, "loops": Trap()}, tmp_path / "evil.ckpt")
    assert main(arguments(config, tmp_path / "run", "--resume", str(tmp_path / "evil.ckpt"))) == 2
    assert "evil.ckpt to resume from: " in capsys.readouterr().err
    assert not (tmp_path / "sprung").exists()


def test_ctrl_c_ends_training_without_a_traceback(config: Path, tmp_path: Path) -> None:
    last = tmp_path / "run" / LAST
    command = [sys.executable, "-m", "captioner", *arguments(config, tmp_path / "run", "--trainer.max_epochs", "999")]
    command += ["--early_stopping.patience", "999"]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_until(last.exists, process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert b"Traceback" not in err
    assert err.splitlines()[-3:] == [
        b"captioner: saves what was learned, then ends; Ctrl-C again ends at once",
        f"captioner: rerun with --resume {last} to continue".encode(),
        b"captioner: interrupted",
    ]
    assert process.returncode == 130
    assert newest_whole(last) == last


def interrupt_at(monkeypatch: pytest.MonkeyPatch, hook: str, step: int, *signals: signal.Signals) -> None:
    """Has the process get signals when a hook of the model is called after so many steps of the optimiser."""
    before = getattr(CaptioningModule, hook)

    def interrupt(self: CaptioningModule, *rest: Any) -> Any:
        if self.global_step == step and not self.trainer.sanity_checking:
            for each in signals:
                signal.raise_signal(each)
        return before(self, *rest)

    monkeypatch.setattr(CaptioningModule, hook, interrupt)


def test_asked_to_end_a_run_saves_the_step_that_it_is_in(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert main(arguments(config, whole)) == 0
    for hook, step, asked, saved in (
        ("training_step", 2, signal.SIGINT, 3),
        ("training_step", 2, signal.SIGTERM, 3),
        ("training_step", 5, signal.SIGINT, 6),  # an epoch's last
        ("training_step", 5, signal.SIGTERM, 6),
        ("validation_step", 6, signal.SIGTERM, 6),
        ("validation_step", 6, signal.SIGINT, 6),
        ("training_step", 6, signal.SIGINT, 7),
    ):
        with monkeypatch.context() as patch:
            interrupt_at(patch, hook, step, asked)
            assert main(arguments(config, folder)) == 130
        assert state(folder)["global_step"] == saved
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert main(arguments(config, folder, "--resume", str(folder / LAST))) == 0
        assert_equal_runs(folder, whole)
        shutil.rmtree(folder)


def test_an_epoch_without_validation_is_saved_too(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rarely = ["--trainer.check_val_every_n_epoch", "2"]
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert main(arguments(config, whole, *rarely)) == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, "training_step", 5, signal.SIGINT)
        assert main(arguments(config, folder, *rarely)) == 130
    assert state(folder)["global_step"] == 6
    assert main(arguments(config, folder, *rarely, "--resume", str(folder / LAST))) == 0
    assert_equal_runs(folder, whole)


def test_a_second_ctrl_c_ends_a_run_at_once(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt_at(monkeypatch, "training_step", 2, signal.SIGINT, signal.SIGINT)
    assert main(arguments(config, tmp_path)) == 130
    assert not (tmp_path / LAST).exists()
    assert capsys.readouterr().err.splitlines()[-1] == "captioner: interrupted"


def test_ctrl_c_before_the_first_step_ends_a_run_at_once(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, "on_fit_start", 0, signal.SIGINT)
    assert main(arguments(config, tmp_path)) == 130
    assert not (tmp_path / LAST).exists()


def test_where_ctrl_c_is_ignored_a_run_ignores_it(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, "training_step", 2, signal.SIGINT)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert main(arguments(config, tmp_path)) == 0
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed_everything", "2"], "was trained with seed_everything 1, not 2; resume with it"),
        (["--model.optimizer.learning_rate", "0.5"], "tensors at 0.005 (decay 0), "),
        (["--model.optimizer.weight_decay", "0.3"], "(decay 0.3), "),
        (["--model.encoder.unfreeze_from", "null"], "or begin a new phase with model.start.checkpoint"),
    ],
    ids=["seed", "rate", "decay", "parts"],
)
def test_a_run_goes_on_as_it_began_alone(
    options: list[str], message: str, begun: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(config, tmp_path / "run", "--resume", str(begun), *options)) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


@pytest.fixture
def begun(config: Path, tmp_path: Path) -> Path:
    """The checkpoint of a run of one epoch."""
    assert main(arguments(config, tmp_path / "begun", "--trainer.max_epochs", "1")) == 0
    return tmp_path / "begun" / LAST


def test_a_run_that_steps_end_within_an_epoch_goes_on_there(config: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(arguments(config, whole)) == 0
    # The learning rate falls as in the whole run, whose steps are as many.
    steps = state(whole)["global_step"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lightning.Trainer, "estimated_stepping_batches", property(lambda self: steps))
        assert main(arguments(config, parts, "--trainer.max_steps", "8")) == 0
    assert state(parts)["global_step"] == 8
    assert main(arguments(config, parts, "--resume", str(parts / LAST))) == 0
    assert_equal_runs(parts, whole)


def test_a_run_that_an_early_stop_ended_stays_ended(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    # Without a rate nothing becomes better.
    options = [
        "--model.optimizer.learning_rate",
        "0",
        "--model.optimizer.encoder_learning_rate",
        "0",
        "--trainer.max_epochs",
        "6",
    ]
    assert main(arguments(config, folder, "--early_stopping.patience", "1", *options)) == 0
    stopped = state(folder)["global_step"]
    again = ["--resume", str(folder / LAST), *options]
    assert main(arguments(config, folder, "--early_stopping.patience", "1", *again)) == 0
    assert state(folder)["global_step"] == stopped
    assert main(arguments(config, folder, "--early_stopping.patience", "2", *again)) == 0
    assert state(folder)["global_step"] == stopped * 3 // 2
    # Without any patience the first epoch, which nothing is compared with, is still trained.
    assert main(arguments(config, tmp_path / "none", "--early_stopping.patience", "0", *options)) == 0
    assert state(tmp_path / "none")["global_step"] == stopped


def test_a_validation_within_an_epoch_is_not_lost(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    saved: list[int] = []
    save = lightning.Trainer.save_checkpoint

    def note(self: lightning.Trainer, *rest: Any, **options: Any) -> None:
        if Path(rest[0]).name == LAST:
            saved.append(self.global_step)
        save(self, *rest, **options)

    options = ["--trainer.val_check_interval", "3", "--save_every_steps", "3", "--trainer.max_epochs", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lightning.Trainer, "save_checkpoint", note)
        assert main(arguments(config, folder, *options)) == 0
    assert saved == [4, state(folder)["global_step"]]
