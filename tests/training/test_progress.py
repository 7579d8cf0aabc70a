"""A run shows that it lives, and how long it will take, wherever its messages go."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import CAPTIONER, started
from training_runs import run, small_config

from captioner.cli import main
from captioner.training.progress import ProgressLines
from captioner.utils import counter
from captioner.utils.counter import counted, in_words

PICTURES = 24


@pytest.fixture
def config(shapes: Path, tmp_path: Path) -> dict[str, Any]:
    trainer = {"default_root_dir": str(tmp_path / "run")}
    return small_config(shapes / "captions.jsonl", {"trainer": trainer})


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines come as often as they can."""
    monkeypatch.setattr(counter, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(counter, "SECONDS", 0.0)


@pytest.mark.usefixtures("always")
def test_a_run_tells_its_data_its_steps_and_the_time_left(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config["data"]["feature_cache"] = str(tmp_path / "features.safetensors")
    assert run(config, tmp_path) == 0
    told = capsys.readouterr().err
    assert re.search(r"^captioner: Encoding images: \d+ of 22, \d+ seconds left$", told, re.MULTILINE)
    assert "captioner: training images: 20, training captions: 20, validation images: 2, vocabulary: " in told
    assert (
        f"captioner: trains on cpu, 5 steps an epoch, at most 2 epochs; the log and the checkpoints are in {tmp_path}"
        in told
    )
    steps = re.findall(
        r"^epoch (\d), step (\d) of 5, train/loss \d\.\d{4}, at most (\d+) seconds left$", told, re.MULTILINE
    )
    assert [(epoch, step) for epoch, step, _ in steps] == [(str(e), str(s)) for e in (1, 2) for s in range(1, 6)]
    assert steps[-1][2] == "0"
    assert "epoch 1, validation, batch 1 of 1\n" in told


def test_the_data_are_told_before_validation_is_tried(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProgressLines, "on_sanity_check_start", lambda *_: print("tried", file=sys.stderr))
    assert run(config, tmp_path) == 0
    told = capsys.readouterr().err
    assert told.index("training images: 20") < told.index("tried\n") < told.index("trains on cpu")


def test_lines_come_after_a_while_and_not_at_every_step(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counter, "FIRST_SECONDS", 0.0)
    assert run(config, tmp_path) == 0
    assert len(re.findall(r"^epoch \d, ", capsys.readouterr().err, re.MULTILINE)) == 1


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("wanted", ["true", "false"])
def test_a_bar_is_drawn_as_it_was_asked_for(
    config: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str], wanted: str
) -> None:
    assert run(config, tmp_path, "--trainer.enable_progress_bar", wanted) == 0
    printed = capfd.readouterr()
    assert ("Epoch 1:" in printed.out) == (wanted == "true")
    assert "step 1 of" not in printed.err
    assert "epoch 2: " in printed.err


@pytest.mark.usefixtures("always")
def test_a_language_model_tells_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("a dog runs on grass\na cat sits on a road\n" * 40)
    config = {
        "task": "language_model",
        "trainer": {"default_root_dir": str(tmp_path / "run"), "max_steps": 8, "val_check_interval": 4},
        "model": {"decoder": {"embedding_size": 8, "hidden_size": 8, "attention": "none", "image_input": "none"}},
        "data": {"text": [str(tmp_path / "text.txt")], "min_count": 1, "batch_size": 2, "steps": 5},
    }
    assert run(config, tmp_path) == 0
    told = capsys.readouterr().err
    assert "captioner: training lines: 76, training words: " in told
    assert ", at most 8 steps in all; " in told
    assert re.search(r"^epoch 1, step 8 of \d+, train/loss \S+, at most 0 seconds left$", told, re.MULTILINE)


@pytest.mark.usefixtures("always")
def test_a_file_of_captions_is_counted(
    checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["caption", str(photos), "--model", str(checkpoint), "--output", str(tmp_path / "captions.jsonl")]
    assert main(command) == 0
    told = capsys.readouterr().err.splitlines()
    assert [re.sub(r"\d+ seconds", "N seconds", line) for line in told] == [
        f"captioner: Captioning: {done} of 3, N seconds left" for done in (1, 2, 3)
    ]


def test_on_a_terminal_a_file_of_captions_has_a_counter(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "captions.jsonl"
    command: list[str | Path] = [*CAPTIONER, "caption", photos, "--model", checkpoint, "--output", output]
    terminal, other_end = pty.openpty()
    with started(command, stderr=other_end, env=os.environ | {"TERM": "xterm", "OMP_NUM_THREADS": "1"}) as process:
        os.close(other_end)
        seen = b"".join(read(terminal))
        process.wait()
    os.close(terminal)
    assert process.returncode == 0
    assert b"Captioning" in seen
    assert b"100%" in seen
    assert len(output.read_text().splitlines()) == 3


def read(terminal: int) -> Iterator[bytes]:
    with contextlib.suppress(OSError):  # the end
        while part := os.read(terminal, 1 << 16):
            yield part


def test_what_is_counted_comes_through() -> None:
    assert list(counted(iter("abc"), "Letters", 3)) == ["a", "b", "c"]
    assert list(counted([], "Nothing", 0)) == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (89, "89 seconds"),
        (90, "2 minutes"),
        (5399, "90 minutes"),
        (5400, "2 hours"),
        (200000, "2 days"),
    ],
)
def test_a_duration_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
