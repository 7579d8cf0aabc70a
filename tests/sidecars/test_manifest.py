"""The file that tells what was written into a folder."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import pytest

from captioner.errors import CaptionerError
from captioner.sidecars.forms import FORMS
from captioner.sidecars.manifest import NAME, Entry, Manifest, digest_of, pack, unpack
from captioner.sidecars.targets import Row
from captioner.sidecars.undo import take_back

MADE: Entry = {"picture": "a.jpg", "caption": "a dog", "log_probability": -1.5, "confidence": None}
WRITTEN: Entry = {"form": "txt", "file": "a.txt", "slots": {}, "sha256": digest_of(b"a dog\n"), "original": None}


def test_entries_come_back_and_the_newest_counts(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    manifest.append([MADE, WRITTEN])
    manifest.append([MADE | {"caption": "a cat"}])
    again = Manifest(tmp_path)
    assert again.made["a.jpg"]["caption"] == "a cat"
    assert again.written["txt", "a.txt"]["sha256"] == WRITTEN["sha256"]


@pytest.mark.parametrize("torn", [b'{"captioner": "0', b"{", b"\0\0\0"])
def test_a_line_that_was_torn_is_cut_off(torn: bytes, tmp_path: Path) -> None:
    Manifest(tmp_path).append([MADE])
    whole = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(whole + torn)
    manifest = Manifest(tmp_path)
    assert list(manifest.made) == ["a.jpg"]
    manifest.append([WRITTEN])
    assert (tmp_path / NAME).read_bytes().startswith(whole)
    assert len((tmp_path / NAME).read_bytes().splitlines()) == 2


@pytest.mark.parametrize(
    "entry",
    [
        WRITTEN | {"file": "../a.txt"},
        WRITTEN | {"file": "/etc/passwd"},
        WRITTEN | {"file": ".."},
        WRITTEN | {"slots": {"caption": "text"}},
        WRITTEN | {"original": 3},
        WRITTEN | {"slots": {"caption": {"text": "a", "before": 3}}},
        WRITTEN | {"modified": "now"},
        {"picture": "a.jpg"},
        MADE | {"log_probability": "low"},
        [],
        3,
    ],
)
def test_what_is_no_entry_is_refused(entry: object, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(json.dumps(entry) + "\n")
    with pytest.raises(CaptionerError, match=r"line 1 was not written by captioner"):
        Manifest(tmp_path)


def test_originals_come_back_and_bombs_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unpack(pack(b"\0\xff text")) == b"\0\xff text"
    assert unpack(pack(None)) is None
    with pytest.raises(CaptionerError, match="is damaged"):
        unpack("not base 85 \u00e9")
    monkeypatch.setattr("captioner.sidecars.manifest._LARGEST_ORIGINAL", 1000)
    with pytest.raises(CaptionerError, match="too large"):
        unpack(base64.b85encode(zlib.compress(bytes(1001))).decode())


def test_a_folder_into_which_nothing_was_written_stays_empty(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    manifest.open()
    assert (tmp_path / NAME).exists()
    manifest.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    Manifest(tmp_path).append([WRITTEN])
    left, others = ".a.txt.abcd_123.part", [".b.txt.abcd_123.part", "a.txt.part", ".a.txt.part"]
    for name in (left, *others):
        (tmp_path / name).touch()
    manifest = Manifest(tmp_path)
    manifest.open()
    manifest.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([NAME, *others])


def test_an_entry_that_came_with_a_folder_touches_nothing_that_differs(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("my words")
    Manifest(tmp_path).append([WRITTEN | {"original": pack(b"evil"), "slots": {"caption": {"text": "a dog"}}}])
    rows: list[Row] = []
    take_back([tmp_path], FORMS, False, rows.append)
    assert [row.action for row in rows] == ["changed"]
    assert (tmp_path / "a.txt").read_text() == "my words"
