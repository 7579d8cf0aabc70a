"""Tar shards: read, captioned, scored, evaluated and learned from as the same pictures in a folder are."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from shard_files import jpeg, write_shards, write_tar

from captioner.cli import main
from captioner.data.caption_files import read_records
from captioner.data.filters import with_pictures
from captioner.data.images import open_image
from captioner.data.skip_report import Skipped
from captioner.errors import CaptionerError
from captioner.utils.tar_files import members

PICTURES = 40


def as_json(**facts: Any) -> bytes:
    return json.dumps(facts).encode()


@pytest.fixture
def shards(shapes: Path, tmp_path: Path) -> Path:
    """The data set in shards of 10 pictures."""
    return write_shards(shapes, tmp_path / "shards")


def test_a_folder_of_shards_holds_the_records_of_the_files(shapes: Path, shards: Path) -> None:
    found, expected = read_records(shards), read_records(shapes / "captions.jsonl")
    facts = [(each.captions, each.split, each.image_id, each.human) for each in expected]
    assert [(each.captions, each.split, each.image_id, each.human) for each in found] == facts
    assert [open_image(each.image).tobytes() for each in found] == [open_image(e.image).tobytes() for e in expected]
    assert found[11].image == shards / "000010.tar" / "000011.jpg"


def test_captions_are_those_of_the_text_else_of_the_json(tmp_path: Path) -> None:
    file = write_tar(
        tmp_path / "val-000.tar",
        ("./a.jpg", jpeg()),
        ("./a.txt", "\ufeffa café\n\n a bar \n".encode()),
        ("./a.json", as_json(caption="another", url="x")),
        ("sub/b.c.JPG", b"no picture: its ending is c.JPG"),
        ("sub/b.JPG", jpeg()),
        ("sub/b.json", as_json(caption="of the JSON", tags=[["dog", 0.5]])),
        ("c.webp", jpeg()),
        ("c.caption", b"beside"),
        ("c.json", as_json(captioner={"caption": "beside"}, split="test")),
        ("words.txt", b"without a picture"),
        ("README", b"hello"),
        ("/etc/d.jpg", jpeg()),
        ("../e.jpg", jpeg()),
    )
    skipped = Skipped(file, 1)
    found = {each.image_id: each for each in read_records(file, wanted=("train", "val", "test"), skipped=skipped)}
    assert {name: (each.captions, each.split, each.tags, each.human) for name, each in found.items()} == {
        "val-000.tar/a.jpg": (("a café", "a bar"), "val", (), True),
        "val-000.tar/sub/b.JPG": (("of the JSON",), "val", (("dog", 0.5),), True),
        "val-000.tar/c.webp": (("beside",), "test", (), False),
    }
    assert skipped.images == 0


@pytest.mark.parametrize(
    ("members_", "told"),
    [
        ([("a.json", b"{")], r"the JSON of a of .*000.tar is damaged \(.*\): mend it"),
        ([("a.json", b"[]")], r"the JSON of a of .*000.tar is \[\]: it must be an object"),
        ([("a.txt", b"\xff")], r"the text of a of .*000.tar is not UTF-8 \(byte 0\): save it as UTF-8"),
        ([("a.json", as_json(caption=None))], r'"caption" of a of .*000.tar is null: it must be a text'),
        ([], r"a.jpg in .*000.tar has no captions: add one or take the image out"),
    ],
)
def test_a_faulty_sample_is_told_and_can_be_passed_over(
    tmp_path: Path, members_: list[tuple[str, bytes]], told: str
) -> None:
    good = [("b.jpg", jpeg()), ("b.txt", b"a good one")]
    file = write_tar(tmp_path / "000.tar", ("a.jpg", jpeg()), *members_, *good)
    with pytest.raises(CaptionerError, match=told):
        read_records(file)
    skipped = Skipped(file, 0.5)
    [record] = read_records(file, skipped=skipped)
    assert (record.captions, skipped.images) == (("a good one",), 1)


def test_a_damaged_shard_is_told(shards: Path, tmp_path: Path) -> None:
    whole = (shards / "000000.tar").read_bytes()
    size = len(whole.rstrip(b"\0"))
    spoiled = bytearray(whole)
    place = members(shards / "000000.tar")["000003.jpg"].start - 512
    spoiled[place : place + 100] = b"?" * 100
    for number, content in enumerate((whole[: size - 2000], whole[:700], bytes(spoiled), b"", jpeg())):
        file = tmp_path / f"{number}.tar"
        file.write_bytes(content)
        with pytest.raises(CaptionerError, match=rf"{file}: is a damaged or compressed tar file \(.*\); get a whole"):
            read_records(file)
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as tar:
        tar.add(shards / "000000.tar")
    with pytest.raises(CaptionerError, match="is a damaged or compressed tar file"):
        read_records(tmp_path / "packed.tar")


def test_pictures_in_shards_are_looked_at_and_opened_as_files_are(tmp_path: Path) -> None:
    good = [("good.jpg", jpeg()), ("good.txt", b"good")]
    file = write_tar(tmp_path / "000.tar", ("cut.jpg", jpeg()[:-300]), ("cut.txt", b"cut"), *good)
    skipped = Skipped(file, 0.5)
    assert [each.image.name for each in with_pictures(read_records(file), skipped)] == ["good.jpg"]
    with pytest.raises(CaptionerError, match=rf"{file}/cut.jpg: is damaged: "):
        open_image(file / "cut.jpg")
    with pytest.raises(CaptionerError, match=rf"{file}/none.jpg: no such file; check the path"):
        open_image(file / "none.jpg")
    write_tar(file, ("good.jpg", jpeg("blue", (9, 9))))
    assert open_image(file / "good.jpg").size == (9, 9), "the file was replaced"
    (tmp_path / "folder.tar").mkdir()
    shutil.copy(file, tmp_path / "folder.tar" / "inner.tar")
    assert open_image(tmp_path / "folder.tar" / "inner.tar" / "good.jpg").size == (9, 9)


def test_other_caption_files_may_name_pictures_in_shards(tmp_path: Path) -> None:
    write_tar(tmp_path / "x" / "000.tar", ("sub/a.jpg", jpeg()))
    lines = [{"image": "x/000.tar/sub/a.jpg", "captions": ["one"]}, {"image": "x/000.tar/b.jpg", "captions": ["two"]}]
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    skipped = Skipped(tmp_path / "captions.jsonl", 0.5)
    [record] = read_records(tmp_path / "captions.jsonl", skipped=skipped)
    assert open_image(record.image).size == (40, 30)
    assert skipped.images == 1


def test_a_shard_that_a_link_leads_to_is_outside_the_folder(tmp_path: Path) -> None:
    outside = write_tar(tmp_path / "outside" / "000.tar", ("a.jpg", jpeg()), ("a.txt", b"one"))
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "000.tar").symlink_to(outside)
    with pytest.raises(CaptionerError, match=r"is a link to .*outside/000.tar/a.jpg, not within .*inside"):
        read_records(tmp_path / "inside")
    assert len(read_records(tmp_path / "inside", anywhere=True)) == 1


def test_captions_of_shards_are_those_of_the_files(
    checkpoint: Path, shapes: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["caption", "--model", str(checkpoint), "--json"]
    assert main([*command, str(shapes / "images")]) == 0
    expected = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert main([*command, str(shards)]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each.pop("image") for each in found] == [
        f"{shards}/{number // 10 * 10:06d}.tar/{number:06d}.jpg" for number in range(PICTURES)
    ]
    assert [{**each, "image": None} for each in expected] == [{**each, "image": None} for each in found]
    # A damaged shard costs one line.
    (shards / "999999.tar").write_bytes(b"?" * 1000)
    assert main([*command, str(shards)]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == PICTURES + 1
    assert err.startswith(f"captioner: {shards / '999999.tar'}: is a damaged or compressed tar file (")
    # An interrupted job goes on, and its file is one to learn from.
    output = tmp_path / "out.jsonl"
    assert main([*command, str(shards / "000010.tar"), "--output", str(output)]) == 0
    whole = output.read_bytes()
    output.write_bytes(b"".join(whole.splitlines(keepends=True)[:4]))
    assert main([*command, str(shards / "000010.tar"), "--output", str(output), "--resume"]) == 0
    assert output.read_bytes() == whole
    assert [each.human for each in read_records(output, anywhere=True)] == [False] * 10


def test_shards_are_evaluated_and_scored_as_files_are(
    checkpoint: Path, shapes: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "--model", str(checkpoint), "--split", "train", "--json", "--data"]
    assert main([*command, str(shapes / "captions.jsonl"), "--output", str(tmp_path / "results.json")]) == 0
    expected = capsys.readouterr().out
    assert main([*command, str(shards)]) == 0
    assert capsys.readouterr().out == expected
    scored = []
    for references in (shapes / "captions.jsonl", shards):
        written = [str(tmp_path / "results.json")]
        assert main(["score", "--references", str(references), "--candidates", *written, "--json"]) == 0
        scored.append(capsys.readouterr().out)
    assert scored[0] == scored[1]


def test_shards_that_were_captioned_are_candidates(
    checkpoint: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = write_tar(tmp_path / "bare" / "0.tar", ("0.jpg", jpeg("red")), ("1.jpg", jpeg("blue")))
    assert main(["write", str(bare), "--model", str(checkpoint), "--as", "tar", "--output", str(tmp_path / "out")]) == 0
    ours = read_records(tmp_path / "out")
    assert main(["caption", str(bare), "--model", str(checkpoint), "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = [json.loads(line)["caption"] for line in lines if line.startswith("{")]
    assert [each.captions for each in ours] == [(caption,) for caption in told]
    assert [each.human for each in ours] == [False, False]
    people = [("0.jpg", jpeg()), ("0.txt", told[0].encode()), ("1.jpg", jpeg()), ("1.txt", b"something else")]
    write_tar(tmp_path / "people" / "0.tar", *people)
    both = ["--references", str(tmp_path / "people"), "--candidates", str(tmp_path / "out")]
    assert main(["score", *both, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 2
