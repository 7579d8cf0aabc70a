"""A file that is not what its name says is told by what it is, wherever it is given."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from captioner import checkpoint
from captioner.data.images import open_image
from captioner.data.json_fields import read_text
from captioner.errors import CaptionerError
from captioner.text.vocabulary import SPECIAL_WORDS, Vocabulary
from captioner.training.warm_start import read_word_vectors
from captioner.utils.file_kinds import is_text
from captioner.utils.spelling import tell_missing


def packed(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
    return buffer.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>"
WORKBOOK = packed("[Content_Types].xml", "docProps/app.xml", "xl/workbook.xml")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty: get it again"),
        (b"\0" * 500, "is empty: get it again"),
        (PAGE, "is a web page: download the file itself"),
        (b'<?xml version="1.0"?>\n<html lang="en"/>', "is a web page"),
        (POINTER, "is a Git LFS pointer: git lfs pull"),
        (packed("a.jpg"), "is a zip archive: unpack it"),
        (gzip.compress(b"x", mtime=0), "is a gzip archive: unpack it"),
        (tar(), "is a tar archive: unpack it"),
        (WORKBOOK, "is an Excel workbook: give an image file"),
        (b"PAR1" + bytes(100), "is a Parquet file: give an image file"),
        (b"%PDF-1.7\n", "is a PDF document: save its pages as images"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is an SVG drawing: save it as PNG"),
        (b"\0\0\0\x20ftypisom" + bytes(50), "is a video: save a frame"),
        (b'{"image": "a.jpg"}', "is text: give an image file"),
        (b"\xff\x0a" + bytes(range(1, 90)), "is a JPEG XL image, which is not read here; convert it to JPEG or PNG"),
    ],
)
def test_what_is_no_image(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(CaptionerError) as raised:
        open_image(tmp_path / "a.jpg")
    assert str(raised.value).startswith(f"{tmp_path / 'a.jpg'}: {told}")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (WORKBOOK, "is an Excel workbook: save it as CSV UTF-8"),
        (packed("[Content_Types].xml"), "is an Excel workbook or another file of Office: save it as CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "is a workbook or document of an old Office: save it as CSV"),
        (b"PAR1" + bytes(100) + b"PAR1", "is a Parquet file: write it as CSV or JSON lines"),
        (PAGE, "is a web page: download the file itself"),
        (POINTER, "is a Git LFS pointer: git lfs pull"),
        (gzip.compress(b"image,caption", mtime=0), "is a gzip archive: unpack it"),
        (b"", "is empty"),
        (b"image,caption\na.jpg,caf\xe9\n", "is not UTF-8 text (byte 23): save it as UTF-8"),
    ],
)
def test_what_is_no_caption_file(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(CaptionerError) as raised:
        read_text(tmp_path / "a.csv")
    assert str(raised.value).startswith(f"{tmp_path / 'a.csv'} {told}")


def test_an_image_is_no_caption_file(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(CaptionerError, match="is a PNG image: give a file with captions"):
        read_text(tmp_path / "a.png")


@pytest.mark.parametrize(("content", "told"), [(POINTER, "is a Git LFS pointer; git"), (PAGE, "is a web page;")])
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(CaptionerError, match=told):
        checkpoint.read(tmp_path / "a.safetensors")


def test_a_folder_is_no_checkpoint_and_its_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaptionerError, match="is a folder; it has no checkpoint"):
        checkpoint.read(tmp_path)
    for name in ("last.ckpt", "captioner.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(CaptionerError, match=f"is a folder; give {tmp_path / 'captioner.safetensors'}"):
        checkpoint.read(tmp_path)


WORDS = Vocabulary([*SPECIAL_WORDS, "a", "dog"])


@pytest.mark.parametrize("text", ["\ufeffa 1 2\ndog 3 4\n", "a\t1\t2\ndog 3  4\n", "2 2\na 1 2\ndog 3 4\n"])
def test_word_vectors_of_other_writers(tmp_path: Path, text: str) -> None:
    (tmp_path / "v.txt").write_bytes(text.encode())
    found = read_word_vectors(tmp_path / "v.txt", WORDS, 2)
    assert {WORDS.words[id_]: vector.tolist() for id_, vector in found.items()} == {"a": [1, 2], "dog": [3, 4]}


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400"])
def test_a_word_vector_of_no_numbers_is_told(tmp_path: Path, value: str) -> None:
    (tmp_path / "v.txt").write_text(f"a 1 2\ndog {value} 4\n")
    with pytest.raises(CaptionerError, match=r"v.txt, line 2: -?(nan|inf) for 'dog'; every value must be a finite"):
        read_word_vectors(tmp_path / "v.txt", WORDS, 2)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("https://example.com/a.jpg", "is an address, and nothing is fetched; download it"),
        ("https:/example.com/a.jpg", "is an address"),
        ("file:///etc/a.jpg", "is an address; give the path alone: /etc/a.jpg"),
        ("data:image/png;base64,AAAA", "is a data address"),
        ("*.jpg", "no such file; a pattern is not looked up"),
        ("C:\\me\\x.jpg", "no such file; it is a path of Windows"),
        ("sub\\B.jpg", "no such file; sub/b.jpg is there: write it so"),
        ("sub\\b.jpg", "no such file; sub/b.jpg is there: write / for \\"),
        ("SUB/b.jpg", "no such file; sub/b.jpg is there: write it so"),
        (
            "e\u0301.jpg",
            "no such file; one of the same look is there, spelled with other Unicode characters: '",
        ),
        ("nothing.jpg", "no such file; check the path"),
    ],
)
def test_a_missing_file_is_told_with_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("sub")
    for name in ("sub/b.jpg", "é.jpg"):
        Path(name).touch()
    assert tell_missing(path).startswith(told)


def test_text_that_a_character_ends_is_text() -> None:
    assert is_text("été".encode()[:-1])
    assert not is_text(b"\xffabc")
    assert not is_text(b"a\0b")
