"""captioner/data/records.py: the record and its JSON lines."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from captioner.data.caption_files import read_records
from captioner.data.formats import parse as parse_file
from captioner.data.records import Record, write_jsonl
from captioner.errors import CaptionerError


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def parse(text: str, split: str) -> list[Record]:
    file = Path("x.jsonl")
    file.write_text(text, encoding="utf-8", newline="")
    return parse_file(file, None, split)


def written(records: list[Record], path: Path) -> list[dict[str, object]]:
    write_jsonl(records, path)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_record_does_not_change() -> None:
    record = Record(Path("a.jpg"), ("a dog",), "train", 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.split = "test"  # type: ignore[misc]


def test_written_records_are_read_back_equal(tmp_path: Path) -> None:
    records = [
        Record(tmp_path / "images/ä b.jpg", ('a "quoted" caption, née\ttab', "犬\x1f🐕"), "train", 17),
        Record(tmp_path / "c.png", ("a dog",), "val", "c.png"),
        Record(tmp_path / "d.png", ("a cat",), "test", "some id"),
        Record(tmp_path / "e.png", ("a cow",), "train", "e.png", (("cow", 0.75), ("grass", 1.0)), human=False),
    ]
    for record in records:
        record.image.parent.mkdir(exist_ok=True)
        record.image.touch()
    write_jsonl(records, tmp_path / "captions.jsonl")
    assert read_records(tmp_path / "captions.jsonl") == records


def test_paths_below_the_file_are_relative_so_that_the_folder_can_move(tmp_path: Path) -> None:
    inside = Record(tmp_path / "set/images/a.jpg", ("a dog",), "train", "a")
    outside = Record(tmp_path / "other/b.jpg", ("a dog",), "train", "b")
    lines = written([inside, outside], tmp_path / "set/captions.jsonl")
    assert [line["image"] for line in lines] == ["images/a.jpg", str(tmp_path / "other/b.jpg")]


def test_paths_relative_to_the_working_folder_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = written([Record(Path("set/a.jpg"), ("a dog",), "train", 1)], Path("set/captions.jsonl"))
    assert lines == [{"image": "a.jpg", "captions": ["a dog"], "split": "train", "image_id": 1}]


def test_an_image_id_that_is_the_path_is_not_written(tmp_path: Path) -> None:
    lines = written([Record(tmp_path / "a.jpg", ("a dog",), "train", "a.jpg")], tmp_path / "captions.jsonl")
    assert list(lines[0]) == ["image", "captions", "split"]


def test_tags_and_provenance_are_written_only_where_there_are_some(tmp_path: Path) -> None:
    plain = Record(tmp_path / "a.jpg", ("a dog",), "train", "a.jpg")
    told = Record(tmp_path / "b.jpg", ("a dog",), "train", "b.jpg", (("dog", 0.5),), human=False)
    lines = written([plain, told], tmp_path / "captions.jsonl")
    assert [line.keys() - {"image", "captions", "split"} for line in lines] == [set(), {"tags", "human"}]
    assert (lines[1]["tags"], lines[1]["human"]) == ([["dog", 0.5]], False)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "captions.jsonl"
    file.write_text("old")
    unwritable = Record(tmp_path / "a.jpg", ("half a pair: \ud800",), "train", 1)
    with pytest.raises(UnicodeEncodeError):
        write_jsonl([unwritable], file)
    assert [path.name for path in tmp_path.iterdir()] == ["captions.jsonl"]
    assert file.read_text() == "old"


def test_only_line_feeds_end_a_line() -> None:
    text = '{"image": "a.jpg", "captions": ["one\u2028two\x85three"], "split": "val"}\r\n\r\n'
    assert parse(text, "train") == [Record(Path("a.jpg"), ("one\u2028two\x85three",), "val", "a.jpg")]


def test_a_line_without_split_gets_the_given_one() -> None:
    assert parse('{"image": "a.jpg", "captions": ["a"]}', "test")[0].split == "test"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"image": "a.jpg", "captions": ["a"', "x.jsonl, line 2 is not JSON (Expecting ',' delimiter at column 36)"),
        (
            '{"image": "a.jpg", "captions": ["a"]} {}',
            "x.jsonl, line 2 continues after its object: write one object a line",
        ),
        ("[1]", "x.jsonl, line 2 is [1]: it must be an object"),
        ('{"captions": ["a"]}', 'x.jsonl, line 2 has no "image" (its fields: '),
        ('{"image": 3.5, "captions": ["a"]}', '"image" of x.jsonl, line 2 is 3.5: it must be a text'),
        ('{"image": "a.jpg"}', 'x.jsonl, line 2 has no "captions" (its fields: '),
        ('{"image": "a.jpg", "captions": 5}', '"captions" of x.jsonl, line 2 is 5: it must be a text or a'),
        ('{"image": "a.jpg", "captions": [null]}', "a caption of x.jsonl, line 2 is null: it must be a text"),
        ('{"image": "a.jpg", "captions": ["a"], "split": 1}', '"split" of x.jsonl, line 2 is 1: it must be a text'),
        (
            '{"image": "a.jpg", "captions": ["a"], "image_id": true}',
            "the image id of x.jsonl, line 2 is true: it must be a whole number or a text",
        ),
        ('{"image": "a.jpg", "captions": ["a"], "image_id": 1.5}', "the image id of x.jsonl, line 2 is 1.5"),
        (
            '{"image": "a.jpg", "captions": ["a"], "tags": "dog"}',
            '"tags" of x.jsonl, line 2 is "dog": it must be a list',
        ),
        ('{"image": "a.jpg", "captions": ["a"], "tags": ["dog"]}', 'a tag of x.jsonl, line 2 is "dog": write [name, s'),
        ('{"image": "a.jpg", "captions": ["a"], "tags": [["dog", true]]}', 'a tag of x.jsonl, line 2 is ["dog", true]'),
        ('{"image": "a.jpg", "captions": ["a"], "tags": [["dog", NaN]]}', 'a tag of x.jsonl, line 2 is ["dog", NaN]'),
        (f'{{"image": "a.jpg", "captions": ["a"], "tags": [["dog", 1{"0" * 400}]]}}', "a tag of x.jsonl, line 2 is"),
        ('{"image": "a.jpg", "captions": ["a"], "human": 1}', '"human" of x.jsonl, line 2 is 1: it must be true or f'),
        ("[" * 100_000, "x.jsonl, line 2 is not usable JSON"),
        ("1" * 10_000, "x.jsonl, line 2 is"),
    ],
)
def test_a_wrong_line_is_named(line: str, message: str) -> None:
    good = '{"image": "0.jpg", "captions": ["a"]}'
    with pytest.raises(CaptionerError) as raised:
        parse(f"{good}\n{line}\n", "train")
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)
