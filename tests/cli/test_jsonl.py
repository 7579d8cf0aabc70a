"""A file of captions that no end of the program damages."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from processes import run

from captioner.cli.jsonl import Journal
from captioner.cli.resume import refuse_another_job, what_is_left
from captioner.errors import CaptionerError

ENTRIES: list[dict[str, Any]] = [
    {"image": f"{n}\udce9\n.jpg", "caption": "a dög runs", "log_probability": -1.5} for n in range(4)
]


def written(path: Path) -> bytes:
    with Journal(path) as journal:
        for entry in ENTRIES:
            journal.append(entry)
    return path.read_bytes()


def refusal(path: Path) -> str:
    before = path.read_bytes()
    with pytest.raises(CaptionerError) as caught:
        Journal(path, resume=True)
    assert path.read_bytes() == before
    return str(caught.value)


def test_a_file_torn_at_any_byte_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    whole = written(path)
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        with Journal(path, resume=True) as journal:
            kept = whole[:length].count(b"\n")
            assert journal.entries == ENTRIES[:kept]
            for entry in ENTRIES[kept:]:
                journal.append(entry)
        assert path.read_bytes() == whole, length


def test_zeros_that_a_power_failure_leaves_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    whole = written(path)
    path.write_bytes(whole + bytes(4096))
    with Journal(path, resume=True) as journal:
        assert journal.entries == ENTRIES
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "content",
    [b"\x89PNG\r\n\x1a\n", b"my notes", b"[1]\n", b'{"image": 3}\n', b"not json\n{}\n", b"[" * 99_999 + b"\n"],
)
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    assert "was not written by captioner caption" in refusal(tmp_path / "other")


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    for resume in (True, False):
        with Journal(path) as journal:
            journal.append(ENTRIES[0])
            with pytest.raises(CaptionerError, match="another captioner is writing it"):
                Journal(path, resume)
        assert len(path.read_bytes().splitlines()) == 1
        assert list(tmp_path.iterdir()) == [path]


def test_an_old_file_stays_until_the_first_line_is_written(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    old = written(path)
    with pytest.raises(RuntimeError), Journal(path):
        raise RuntimeError
    assert path.read_bytes() == old
    with pytest.raises(RuntimeError), Journal(path) as journal:
        journal.append(ENTRIES[1])
        raise RuntimeError
    assert json.loads(path.read_bytes()) == ENTRIES[1]
    assert list(tmp_path.iterdir()) == [path]


def test_a_job_that_fails_before_its_first_line_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Journal(tmp_path / "new" / "captions.jsonl", resume=True):
        raise RuntimeError
    assert list((tmp_path / "new").iterdir()) == []


def test_ctrl_c_right_after_the_first_line_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "captions.jsonl"
    with monkeypatch.context() as context:
        context.setattr("captioner.cli.jsonl._SYNC_SECONDS", -1)
        context.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt), Journal(path) as journal:
            journal.append(ENTRIES[0])
    with Journal(path, resume=True) as journal:
        assert journal.entries == ENTRIES[:1]


def test_entries_are_dropped_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    written(path)
    with Journal(path, resume=True) as journal:
        journal.drop([0, 2])
        journal.append(ENTRIES[0])
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == [ENTRIES[1], ENTRIES[3], ENTRIES[0]]


def limit_file_size(count: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, count))


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    length = len(written(tmp_path / "other.jsonl")) // len(ENTRIES)
    program = (
        "import sys; from captioner.cli.jsonl import Journal\n"
        "with Journal(sys.argv[1], True) as journal:\n"
        "    while True: journal.append(eval(sys.argv[2]))"
    )
    for room in range(5 * length, 6 * length, 7):
        path.unlink(missing_ok=True)
        done = run(
            [sys.executable, "-S", "-c", program, path, repr(ENTRIES[0])],
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            preexec_fn=partial(limit_file_size, room),
        )
        assert b"File too large; 5 lines are safe in it, make room and go on with --resume" in done.stderr
        assert [json.loads(line) for line in path.read_bytes().splitlines()] == [ENTRIES[0]] * 5


@pytest.mark.parametrize(
    ("place", "message"),
    [("file/captions.jsonl", "exists"), ("folder", "not a regular file"), ("pipe", "not a regular file")],
)
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for resume in (True, False):
        with pytest.raises(CaptionerError, match=f"cannot write .*{place}.*{message}.*choose another place"):
            Journal(tmp_path / place, resume)


def lines(*names: str) -> list[dict[str, Any]]:
    return [{"image": name, "caption": name, "log_probability": -1.0} for name in names]


@pytest.mark.parametrize(
    ("done", "names", "again"),
    [
        ("", "abcdef", ""),
        ("a", "abcdef", "a"),
        ("ab", "abcdef", "ab"),
        ("abc", "cdef", "c"),
        ("abcdef", "ef", "ef"),
        ("ac", "acbdef", "ac"),
        ("xyz", "zabcdef", "z"),
    ],
)
def test_what_is_left_begins_with_the_last_batch(done: str, names: str, again: str) -> None:
    rest = what_is_left("abcdef", lines(*done), batch_size=2)
    assert "".join(rest.names) == names
    assert rest.again == tuple(lines(*again))


def test_one_photograph_given_twice_has_two_lines() -> None:
    assert what_is_left(["a", "./a", "a"], lines("a", "a"), batch_size=1).names == ("a", "a")


def test_another_job_is_refused() -> None:
    [old] = lines("a")
    refuse_another_job(old, old | {"log_probability": -1.001}, "file")
    refuse_another_job(old, {"image": "a", "error": "gone"}, "file")
    others: list[dict[str, Any]] = [{"caption": "b"}, {"log_probability": -2.0}, {"captions": []}]
    for change in others:
        with pytest.raises(CaptionerError, match="made with other options or another model"):
            refuse_another_job(old, old | change, "file")
    with pytest.raises(CaptionerError, match="made with other options"):
        refuse_another_job(old | {"log_probability": "x"}, old, "file")


@pytest.mark.parametrize(
    ("change", "is_another"),
    [({"log_probability": -2.01}, False), ({"log_probability": -2.2}, True), ({"caption": "a cat"}, True)],
)
def test_another_alternative_tells_of_another_job(change: dict[str, Any], is_another: bool) -> None:
    alternatives = [{"caption": "a dog", "log_probability": -1.0}, {"caption": "dogs", "log_probability": -2.0}]
    [old] = ({**line, **alternatives[0], "captions": alternatives} for line in lines("a"))
    new = {**old, "captions": [alternatives[0], alternatives[1] | change]}
    with pytest.raises(CaptionerError, match="other options") if is_another else contextlib.nullcontext():
        refuse_another_job(old, new, "file")
