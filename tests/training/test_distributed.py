"""Training in two processes on the CPU: the scores of one, exact resuming, and no process that waits for a dead one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image
from test_interrupted_training import assert_equal_runs
from training_runs import small_config

from captioner import checkpoint
from captioner.cli import main
from captioner.training.checkpointing import LAST

BEGINNINGS = ("epoch", "captioner: training images", "captioner: trains on")
"""Of lines that every run tells."""

PICTURES = 90
"""72 for training and 9 for validation: in batches of 4, one process of two validates a batch more than the other."""

TWO = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
PATIENCE = 60
"""Seconds within which every process of a run has ended after one of them has."""

LONGEST = 300
"""Seconds that a whole run may take on a busy machine; it takes some 15."""


@pytest.fixture
def config(shapes: Path, tmp_path: Path) -> Path:
    changes = {
        "trainer": {"gradient_clip_val": 5.0},
        "model": {"optimizer": {"learning_rate": 1e-2}, "decoder": {"dropout": 0.3}},
        "checkpoint": {"monitor": "val/loss", "mode": "min"},
        "early_stopping": {"monitor": "val/loss", "mode": "min", "patience": 999},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(small_config(shapes / "captions.jsonl", changes)))
    return file


class Run:
    """A training run in processes of its own, in a session of its own, so that all of them can be found."""

    def __init__(self, config: Path, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "captioner", "train", "--config", str(config)]
        command += ["--trainer.default_root_dir", str(folder), *options]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.folder = folder
        self.process = subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload]

    def wait(self, seconds: float = LONGEST) -> tuple[int, str, str]:
        """The exit code, standard output and standard error, complete when no process has them open any more."""
        try:
            out, err = self.process.communicate(timeout=seconds)
        finally:
            self.kill()
        return self.process.returncode, out, err

    def until_saved(self) -> None:
        end = time.monotonic() + LONGEST
        while not (self.folder / LAST).exists():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(self.wait())
            time.sleep(0.02)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def children(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:  # it has ended meanwhile
                    continue
                if int(fields[1]) == self.process.pid:
                    found.append(int(entry.name))
        return sorted(found)


def scores(folder: Path) -> dict[str, float]:
    found: dict[str, float] = checkpoint.read(folder / "captioner.safetensors").card["validation scores"]
    return found


def test_the_scores_are_those_of_one_process(config: Path, tmp_path: Path) -> None:
    begin = ["train", "--config", str(config), "--trainer.default_root_dir", str(tmp_path / "begin")]
    assert main([*begin, "--trainer.max_epochs", "12"]) == 0
    frozen = [
        "--model.start.checkpoint",
        str(tmp_path / "begin" / "best.ckpt"),
        "--model.optimizer.learning_rate",
        "1e-30",
    ]
    one, two = (Run(config, tmp_path / name, *frozen, *more) for name, more in (("one", []), ("two", TWO)))
    assert one.wait()[0] == 0
    code, out, err = two.wait()
    assert code == 0
    assert scores(tmp_path / "two") == scores(tmp_path / "one")
    assert scores(tmp_path / "one")["CIDEr"] > 0.1
    # The first process alone writes and speaks.
    assert out == f"{tmp_path / 'two' / 'captioner.safetensors'}\n"
    told = [line.split(":")[0] for line in err.splitlines() if ", step " not in line]
    assert told == ["captioner"] * 3 + ["epoch 1", "epoch 2"]
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == sorted(
        path.name for path in (tmp_path / "one").iterdir()
    )


@pytest.mark.slow
def test_killed_within_an_epoch_a_run_ends_with_equal_weights(config: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = [
        *TWO,
        "--model.self_critical.weight",
        "0.5",
        "--model.encoder.unfreeze_from",
        "blocks.2",
        "--model.optimizer.ema",
        "0.9",
    ]
    assert Run(config, whole, *options).wait()[0] == 0
    run = Run(config, killed, *options, "--save_every_steps", "2")
    run.until_saved()
    run.kill()
    run.wait()
    assert Run(config, killed, *options, "--resume", str(killed / LAST)).wait()[0] == 0
    assert_equal_runs(killed, whole)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_brings_the_other_down(config: Path, tmp_path: Path, rank: int) -> None:
    run = Run(config, tmp_path / "run", *TWO, "--trainer.max_epochs", "999")
    run.until_saved()
    [other] = run.children()
    os.kill(other if rank else run.process.pid, signal.SIGKILL)
    code, out, err = run.wait(PATIENCE)
    assert code != 0
    assert out == ""
    [told] = [line for line in err.splitlines() if not line.startswith(BEGINNINGS)]
    assert told.startswith("captioner: another process of this run has ended")


def test_ctrl_c_has_one_of_them_save_the_run_and_ends_all(config: Path, tmp_path: Path) -> None:
    run = Run(config, tmp_path / "run", *TWO, "--trainer.max_epochs", "999", "--data.workers", "1")
    run.until_saved()
    os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does, to loaders of images too
    code, out, err = run.wait(PATIENCE)
    assert (code, out) == (130, "")
    told = [line for line in err.splitlines() if not line.startswith(BEGINNINGS)]
    assert told[:2] == [
        "captioner: saves what was learned, then ends; Ctrl-C again ends at once",
        f"captioner: rerun with --resume {tmp_path / 'run' / LAST} to continue",
    ]
    assert set(told[2:]) == {"captioner: interrupted"}  # which the second may say too, unless it is ended first


def test_a_sigterm_to_a_whole_job_has_its_step_saved(config: Path, tmp_path: Path) -> None:
    run = Run(config, tmp_path / "run", "--data.workers", "2", "--trainer.max_epochs", "999")
    run.until_saved()
    os.killpg(run.process.pid, signal.SIGTERM)  # as Slurm and systemd do, to loaders of images too
    code, out, err = run.wait(PATIENCE)
    assert (code, out) == (130, "")
    told = [line for line in err.splitlines() if not line.startswith(BEGINNINGS)]
    assert told[0] == "captioner: saves what was learned, then ends; Ctrl-C again ends at once"
    assert f"captioner: rerun with --resume {tmp_path / 'run' / LAST} to continue" in told
    assert "loads images" not in err


def test_a_process_that_fails_tells_why_and_brings_the_other_down(config: Path, shapes: Path, tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 80).save(tmp_path / "noise.png")
    content = bytearray((tmp_path / "noise.png").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "noise.png").write_bytes(content)
    line = {"image": "noise.png", "captions": ["noise"], "split": "train"}
    (tmp_path / "more.jsonl").write_text(json.dumps(line) + "\n")
    captions = f"[{shapes / 'captions.jsonl'}, {tmp_path / 'more.jsonl'}]"
    code, out, err = Run(config, tmp_path / "run", *TWO, "--data.captions", captions).wait()
    assert code != 0
    assert out == ""
    assert f"captioner: {tmp_path / 'noise.png'}: is damaged: " in err
    assert "Traceback" not in err


def test_a_killed_loader_is_told_in_one_line(config: Path, tmp_path: Path) -> None:
    run = Run(config, tmp_path / "run", "--data.workers", "2", "--trainer.max_epochs", "999")
    run.until_saved()
    os.kill(run.children()[-1], signal.SIGKILL)
    code, out, err = run.wait(PATIENCE)
    assert (code, out) == (2, "")
    [told] = [line for line in err.splitlines() if not line.startswith(BEGINNINGS)]
    assert told.startswith("captioner: a process that loads images is killed by signal: Killed; if memory is short")


def test_more_processes_than_validation_images_are_refused(config: Path, shapes: Path, tmp_path: Path) -> None:
    lines = (shapes / "captions.jsonl").read_text().splitlines(keepends=True)
    wanted = [line for line in lines if '"train"' in line] + [line for line in lines if '"val"' in line][:1]
    (shapes / "few.jsonl").write_text("".join(wanted))
    code, out, err = Run(config, tmp_path / "run", *TWO, "--data.captions", f"[{shapes / 'few.jsonl'}]").wait()
    assert code != 0
    assert out == ""
    assert "captioner: a split of 1 images is too small for 2 processes; lower trainer.devices" in err
    assert "Traceback" not in err


def test_a_cnn_with_parts_that_its_grid_does_not_pass_needs_to_be_told(config: Path, tmp_path: Path) -> None:
    cnn = ["--model.encoder", "{name: timm/mobilenetv3_small_050, last_stage: null, unfreeze_from: all}"]
    code, _, err = Run(config, tmp_path / "run", *TWO, *cnn).wait()
    assert code != 0
    assert "captioner: train: the CNN has parts that its grid does not pass, which processes wait for in vain" in err
    assert "Traceback" not in err
    patient = [*TWO[:-1], "ddp_find_unused_parameters_true", "--trainer.max_epochs", "1"]
    assert Run(config, tmp_path / "run", *patient, *cnn).wait()[0] == 0
