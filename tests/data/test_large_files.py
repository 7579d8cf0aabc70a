"""What makes large data sets quick and small gives the same as what is plain."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captioner.data.dataset import EncodedCaptions
from captioner.data.filters import _looks_whole
from captioner.data.json_fields import parse_members
from captioner.data.paths import RealPaths
from captioner.data.records import Record
from captioner.errors import CaptionerError
from captioner.text.tokenizer import tokenize
from captioner.text.vocabulary import SPECIAL_WORDS, Vocabulary, split_words
from captioner.utils.spelling import Listings

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def parse_in_parts(text: str) -> dict[str, Any]:
    parts: list[object] = []

    def take(number: int, value: object) -> None:
        assert number == len(parts)
        parts.append(value)

    content, end = parse_members(text, "x.json", 0, {"images": take})
    assert not text[end:].strip()
    if content.get("images") == []:
        content["images"] = parts
    return content


@given(st.dictionaries(st.text(max_size=5) | st.just("images"), VALUES, max_size=5), st.sampled_from([None, 1]))
def test_an_object_is_parsed_in_parts_as_whole(value: dict[str, Any], indent: int | None) -> None:
    assert parse_in_parts(json.dumps(value, indent=indent)) == value


@pytest.mark.parametrize(
    "text",
    ["{", '{"a"', '{"a":', '{"a": 1', '{"a": 1,', '{"images": [', '{"images": [1', '{"images": [1,', '{"images": [1]'],
)
def test_an_object_that_is_cut_is_told(text: str) -> None:
    with pytest.raises(CaptionerError, match=r"x.json is not JSON \(.*\): if it was cut short, fetch it again"):
        parse_in_parts(text)


@given(st.text(alphabet="abI'.,-() \xad\n\u2028é8/😀", max_size=30))
def test_a_captions_words_are_those_of_its_tokens(caption: str) -> None:
    brackets = {"-lrb-", "-rrb-", "-lsb-", "-rsb-", "-lcb-", "-rcb-"}
    assert split_words(caption) == [w for t in tokenize([caption])[0] for w in t.split() if w not in brackets]


@pytest.mark.parametrize("size", [10, 70_000])
def test_encoded_captions_are_the_vocabularys(size: int) -> None:
    vocabulary = Vocabulary([*SPECIAL_WORDS, *(f"w{number}" for number in range(size))])
    last = f"w{size - 1}"
    records = [
        Record(Path("a.jpg"), ("w1 w2", last), "train", 0),
        Record(Path("b.jpg"), (f"{last} other w0",), "train", 1),
    ]
    encoded = EncodedCaptions(records, vocabulary)
    expected = [[vocabulary.encode(caption) for caption in record.captions] for record in records]
    assert list(encoded) == expected
    assert (encoded[-1], encoded[:1], len(encoded)) == (expected[-1], expected[:1], 2)
    with pytest.raises(IndexError):
        encoded[2]


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_whole_picture_is_known_by_its_ends(tmp_path: Path, form: str, mode: str) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((60, 40), 80).convert(mode).save(buffer, form, **({"progressive": True} if mode == "L" else {}))
    file = tmp_path / "picture"
    whole = buffer.getvalue()
    file.write_bytes(whole)
    assert _looks_whole(file)
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole[:10], b"", b"x" + whole):
        file.write_bytes(damaged)
        assert not _looks_whole(file)


def test_a_picture_of_too_many_pixels_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (100, 100)).save(tmp_path / "a.jpg")
    assert _looks_whole(tmp_path / "a.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4999)
    assert not _looks_whole(tmp_path / "a.jpg")


def test_links_are_followed_and_other_files_are_not_asked_for(tmp_path: Path) -> None:
    for name in ("real/a.jpg", "real/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "c.jpg").symlink_to("real/b.jpg")
    real = RealPaths(Listings())
    for name in ("real/a.jpg", "folder/a.jpg", "c.jpg", "folder/../c.jpg"):
        assert real.of(tmp_path / name) == str((tmp_path / name).resolve())
