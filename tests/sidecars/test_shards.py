"""WebDataset shards: in, out, and read by webdataset."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from readers import MAKER, picture

from captioner.errors import CaptionerError
from captioner.sidecars.forms import FORMS
from captioner.sidecars.policy import Captioned, Policy
from captioner.sidecars.shards import Shards, find_shards
from captioner.sidecars.targets import Row
from captioner.sidecars.undo import take_back


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    picture("RGB", (20 + number, 20)).save(buffer, "PNG")
    return buffer.getvalue()


MEMBERS = {
    "000.png": png(0),
    "000.cls": b"3",
    "001.png": png(1),
    "001.txt": b"my words",
    "sub/002.png": png(2),
    "sub/002.json": b'{"url": "caf\\u00e9"}',
    "003.png": b"no picture",
    "004.txt": b"no picture either",
    "README": b"hello",
}


def by_size(pictures: Iterable[bytes]) -> Iterator[Captioned | CaptionerError]:
    """Captions that tell a picture by its size."""
    for content in pictures:
        if content.startswith(b"no"):
            yield CaptionerError("the given bytes: is not a readable image")
        else:
            yield Captioned(f"{len(content)} bytes", -1.0, 0.5)


def make(path: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in MEMBERS.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uname = len(content), 1_600_000_000, "me"
            tar.addfile(member, io.BytesIO(content))
        tar.addfile(_link("link"))
    return path


def _link(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, "000.png"
    return member


def write(source: Path, output: Path, made_with: str = "x", is_trial: bool = False, **policy: object) -> list[Row]:
    rows: list[Row] = []
    shards = Shards(output, Policy(**policy), MAKER, made_with, is_trial, rows.append)  # type: ignore[arg-type]
    shards.write(list(find_shards(source, output)), by_size)
    return rows


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {each.name: tar.extractfile(each).read() for each in tar if each.isreg()}  # type: ignore[union-attr]


def test_members_stay_and_captions_come(tmp_path: Path) -> None:
    rows = write(make(tmp_path / "a.tar"), tmp_path / "out")
    assert sorted((row.action, row.slot) for row in rows) == [
        ("error", ""),
        ("keep", "001"),
        ("write", "000"),
        ("write", "sub/002"),
    ]
    assert "003: the given bytes: is not a readable image" in next(row.text for row in rows if row.action == "error")
    new = members(tmp_path / "out" / "a.tar")
    assert {name: new[name] for name in MEMBERS if name != "sub/002.json"} == {
        name: content for name, content in MEMBERS.items() if name != "sub/002.json"
    }
    assert new["000.txt"].decode() == json.loads(new["000.json"])["caption"] == f"{len(MEMBERS['000.png'])} bytes"
    facts = json.loads(new["sub/002.json"])
    assert facts["url"] == "caf\u00e9"
    assert (facts["captioner"]["model"], facts["captioner"]["confidence"]) == (MAKER.model, 0.5)
    assert new.keys() - MEMBERS.keys() == {"000.txt", "000.json", "sub/002.txt"}
    with tarfile.open(tmp_path / "out" / "a.tar") as tar:
        assert (tar.getmember("000.txt").mtime, tar.getmember("000.png").uname) == (1_600_000_000, "me")
        assert tar.getmember("link").issym()
        names = tar.getnames()
    assert names.index("000.txt") == names.index("000.cls") + 1  # samples stay together


def test_webdataset_reads_the_shard(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    write(make(tmp_path / "a.tar"), tmp_path / "out")
    read = {
        each["__key__"]: each for each in webdataset.WebDataset(str(tmp_path / "out" / "a.tar"), shardshuffle=False)
    }
    assert read["000"]["txt"].decode() == f"{len(MEMBERS['000.png'])} bytes"
    assert read["001"]["txt"] == b"my words"
    assert json.loads(read["sub/002"]["json"])["captioner"]["version"] == MAKER.version


def test_ours_is_replaced_and_a_persons_words_are_not(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write(make(tmp_path / "a.tar"), first, mode="append")
    assert members(first / "a.tar")["001.txt"].decode() == f"my words, {len(MEMBERS['001.png'])} bytes"
    rows = write(first / "a.tar", second, prefix="new")
    assert {row.action for row in rows} == {"replace", "error"}
    assert members(second / "a.tar")["001.txt"].decode() == f"my words, new {len(MEMBERS['001.png'])} bytes"


def test_a_second_run_goes_on_and_another_model_writes_anew(tmp_path: Path) -> None:
    source, output = make(tmp_path / "a.tar"), tmp_path / "out"
    write(source, output)
    assert [row.action for row in write(source, output)] == ["same"]
    assert {row.action for row in write(source, output, "another model")} == {"keep", "write", "error"}
    (output / "a.tar").write_bytes(b"mine")
    assert [row.action for row in write(source, output)] == ["error"]
    assert (output / "a.tar").read_bytes() == b"mine"


def test_what_was_written_is_taken_back(tmp_path: Path) -> None:
    source, output = make(tmp_path / "a.tar"), tmp_path / "out"
    assert {row.action for row in write(source, output, is_trial=True)} == {"keep", "write", "error"}
    assert not output.exists()
    write(source, output)
    take_back([output], FORMS, False, lambda row: None)
    assert list(output.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no tar file", "cut"])
def test_damaged_shards_are_told_in_one_line_and_the_others_written(content: bytes | str, tmp_path: Path) -> None:
    whole = make(tmp_path / "b.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[:900] if content == "cut" else content)  # type: ignore[arg-type]
    rows = write(tmp_path, tmp_path / "out")
    assert [row.text.split(": ")[1] for row in rows if row.path == tmp_path / "a.tar"] == ["is a damaged tar file"]
    assert [path.name for path in (tmp_path / "out").glob("*.tar")] == ["b.tar"]
    assert not list((tmp_path / "out").glob(".*.part"))


def test_a_shard_is_not_replaced_by_its_copy(tmp_path: Path) -> None:
    source = make(tmp_path / "a.tar")
    before = source.read_bytes()
    assert [row.action for row in write(source, tmp_path)] == ["error"]
    assert source.read_bytes() == before
