"""Captioning a folder, ended in every way and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import processes
import pytest
from PIL import Image
from training_runs import kill_at_random

from captioner.cli import main

CAPTION = [sys.executable, "-m", "captioner", "caption"]
KILLS = 20


@pytest.fixture
def many(tmp_path: Path) -> Path:
    folder = tmp_path / "many"
    for number in range(150):
        file = folder / f"{number % 7}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        if number % 40 == 7:
            file.write_text("no picture")
        else:
            Image.effect_noise((30 + number, 40), number).save(file)
    return folder


def test_killed_at_random_moments_the_file_is_as_from_one_run(checkpoint: Path, many: Path, tmp_path: Path) -> None:
    command = ["caption", str(many), "--model", str(checkpoint), "--batch-size", "8", "--output"]
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    done = processes.run([*processes.CAPTIONER, *command, whole], capture_output=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 4
    modules = "captioner.pipeline,captioner.cli.jsonl,captioner.cli.resume"
    again = kill_at_random(KILLS, 0.05, 0.3, modules, [*command, str(killed), "--resume"])
    done = processes.run(again, capture_output=True)
    assert done.returncode == 1, done.stderr
    assert int(done.stdout) >= 3
    assert killed.read_bytes() == whole.read_bytes()
    assert len(whole.read_bytes().splitlines()) == 150


def test_ctrl_c_ends_within_two_seconds_and_keeps_what_is_done(checkpoint: Path, many: Path, tmp_path: Path) -> None:
    output = tmp_path / "captions.jsonl"
    command = [*CAPTION, str(many), "--model", str(checkpoint), "--output", str(output)]
    with processes.started(command, stderr=subprocess.PIPE) as process:
        processes.wait_until(lambda: output.exists() and output.stat().st_size > 0, process)
        at_signal = processes.cpu_seconds(process)
        process.send_signal(signal.SIGINT)
        # Not the clock's: another program may have the processor meanwhile.
        assert processes.cpu_seconds_at_end(process) - at_signal < 2
        assert process.returncode == 130
        assert process.stderr is not None
        assert process.stderr.read().splitlines()[-1] == b"captioner: interrupted"
    content = output.read_bytes()
    assert content.endswith(b"\n")
    assert all("image" in json.loads(line) for line in content.splitlines())


CTRL_C_AT = """
import atexit, signal, sys

moment = sys.argv.pop(1)

class Finder:
    def find_spec(self, name, *_):
        if name == moment:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Finder())
def at_exit():
    signal.raise_signal(signal.SIGINT)
    for _ in range(2):  # Python 3.10 calls a handler when it jumps back
        pass

if moment == "atexit":
    atexit.register(at_exit)
from captioner.__main__ import run
run()
"""


@pytest.mark.parametrize("moment", ["captioner.cli", "torch", "captioner.pipeline", "atexit"])
def test_ctrl_c_at_start_and_at_the_end_leaves_no_traceback(checkpoint: Path, photos: Path, moment: str) -> None:
    command: list[str | Path] = [sys.executable, "-c", CTRL_C_AT, moment, "caption", photos, "--model", checkpoint]
    done = processes.run(command, capture_output=True)
    assert done.stderr == b"captioner: interrupted\n"
    assert done.returncode == 130


def run(checkpoint: Path, folder: Path, output: Path, *more: str) -> int:
    return main(["caption", str(folder), "--model", str(checkpoint), "--output", str(output), *more])


def names(output: Path) -> list[str]:
    return [os.path.basename(json.loads(line)["image"]) for line in output.read_bytes().splitlines()]


def test_new_and_mended_photographs_are_added(
    checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "captions.jsonl"
    good = (photos / "1.png").read_bytes()
    (photos / "1.png").write_bytes(good[:50])
    (photos / "0b.png").write_bytes(good[:50])
    assert run(checkpoint, photos, output, "--resume") == 1
    assert len(capsys.readouterr().err.splitlines()) == 2
    (photos / "1.png").write_bytes(good)
    (photos / "0a.png").write_bytes(good)
    assert run(checkpoint, photos, output, "--resume") == 1
    assert names(output) == ["0.png", "0b.png", "2.png", "0a.png", "1.png"]
    [told] = capsys.readouterr().err.splitlines()
    assert "0b.png: is damaged" in told
    (photos / "0b.png").write_bytes(good)
    assert run(checkpoint, photos, output, "--resume") == 0
    assert names(output) == ["0.png", "2.png", "0a.png", "1.png", "0b.png"]
    assert capsys.readouterr().err == ""
    before = output.read_bytes()
    assert run(checkpoint, photos, output, "--resume") == 0
    assert output.read_bytes() == before


@pytest.mark.parametrize("finished", [False, True])
def test_a_file_made_with_other_options_is_left_as_it_is(
    checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], finished: bool
) -> None:
    output = tmp_path / "captions.jsonl"
    assert run(checkpoint, photos, output) == 0
    if not finished:
        (photos / "3.png").write_bytes((photos / "1.png").read_bytes())
    before = output.read_bytes()
    for options in (["--num-captions", "2"], ["--max-words", "2"]):
        assert run(checkpoint, photos, output, "--resume", *options) == 2
        assert "was made with other options or another model" in capsys.readouterr().err
        assert output.read_bytes() == before


def test_resuming_needs_a_file(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caption", str(photos), "--resume"]) == 2
    assert capsys.readouterr().err == "captioner: --resume continues a file of captions; name it with --output\n"


def test_a_full_device_behind_standard_output_is_told(checkpoint: Path, photos: Path) -> None:
    with open("/dev/full", "wb") as full:
        command = [*CAPTION, str(photos), "--model", str(checkpoint)]
        done = processes.run(command, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr == b"captioner: standard output: No space left on device\n"
