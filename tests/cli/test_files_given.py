"""What people give to the commands and to the library in place of one photograph."""

from __future__ import annotations

import io
import shutil
import typing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import captioner
from captioner.caption import Caption
from captioner.cli import main
from captioner.data.images import open_image
from captioner.data.unspaced import tell_unspaced
from captioner.errors import CaptionerError
from captioner.pipeline import Captioner


def test_a_folders_files_of_every_kind_are_captioned_or_told(
    checkpoint: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(photos / "0.png", photos / "noending")
    Image.new("RGB", (8, 8)).save(photos / "old.pcx")
    (photos / "new.jxl").write_bytes(b"\xff\x0a" + bytes(range(1, 60)))
    (photos / "notes.txt").write_text("no picture")
    (photos / "README").write_text("no picture")
    empty = photos.parent / "empty"
    empty.mkdir()
    assert main(["caption", str(photos), str(empty), "--model", str(checkpoint), "--beam-size", "1"]) == 1
    out, err = capsys.readouterr()
    assert [Path(line.split("\t")[0]).name for line in out.splitlines()] == [
        *("0.png", "1.png", "2.png"),
        *("noending", "old.pcx"),
    ]
    assert err.splitlines() == [
        f"captioner: folder {empty}: has no image; give one with .jpg, .png or the like",
        f"captioner: {photos / 'new.jxl'}: is a JPEG XL image, which is not read here; convert it to JPEG or PNG",
    ]
    assert main(["caption", str(empty), "--model", "nowhere"]) == 2


def test_an_address_is_told_as_it_was_written(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caption", "https://example.com/dog.jpg", "--model", str(checkpoint)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("captioner: https://example.com/dog.jpg: is an address, and nothing is fetched; download it")


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("https://huggingface.co/me/dogs/tree/main", "is a page; give hf://me/dogs"),
        ("https://example.com/a.safetensors", "is an address, and nothing is fetched; download it"),
    ],
)
def test_an_address_of_a_model_is_told_as_it_was_written(
    model: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["caption", "a.jpg", "--model", model]) == 2
    assert capsys.readouterr().err.startswith(f"captioner: checkpoint {model}: {told}")


def test_an_address_of_captions_is_told_as_it_was_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "--references", "https://example.com/c.csv", "--candidates", "c.json"]) == 2
    assert capsys.readouterr().err.startswith("captioner: cannot read https://example.com/c.csv: is an address, and")


def test_a_link_to_nothing_is_told(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dog.jpg").symlink_to("nowhere.jpg")
    assert main(["caption", str(tmp_path / "dog.jpg"), "--model", str(checkpoint)]) == 1
    assert "dog.jpg: is a link to nowhere.jpg, which is not there; point it to the file" in capsys.readouterr().err


def test_a_file_without_its_option_is_told_with_it(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(checkpoint)]) == 2
    assert f"; files are given by options, such as --model {checkpoint}; captioner info" in capsys.readouterr().err
    assert main(["info", "--model", str(checkpoint)]) == 0


def test_standard_input_is_called_so(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"<html></html>")))
    assert main(["caption", "-", "--model", str(checkpoint)]) == 1
    assert capsys.readouterr().err.startswith("captioner: standard input: is a web page: download the file itself")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["caption", "x.jpg", "--output", "out.csv"], "out.jsonl"),
        (["evaluate", "--data", "x.csv", "--output", "out.CSV"], "out.json"),
        (["export", "last.ckpt", "--output", "out.pt"], "out.safetensors"),
        (["score", "--references", "r", "--candidates", "c", "--per-image", "out.csv"], "out.jsonl"),
    ],
)
def test_an_ending_that_does_not_fit_is_refused(
    command: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    assert capsys.readouterr().err.endswith(f"name it {name}\n")


def test_iterators_are_taken_like_lists(tiny: Captioner, photos: Path) -> None:
    paths = sorted(photos.glob("*.png"))
    wanted = [caption.text for caption in tiny.caption(paths)]
    assert [caption.text for caption in tiny.caption(iter(paths))] == wanted
    assert [caption.text for caption in tiny.caption(path for path in paths)] == wanted
    assert tiny.caption(photos.glob("*.gif")) == []
    with pytest.raises(CaptionerError, match="is a folder; give an image file, or a list such as sorted"):
        tiny.caption(str(photos))
    with pytest.raises(CaptionerError, match="BytesIO is not an image"):
        tiny.caption(io.BytesIO(b""))


def test_arrays_are_red_green_blue() -> None:
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    assert open_image(red).getpixel((0, 0)) == (255, 0, 0)
    for documented in (open_image, Captioner.caption, captioner.load):
        assert "array[..., ::-1]" in (documented.__doc__ or "")


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("name", ["grey.png", "grey.tif"])
def test_gray_of_any_depth_keeps_its_brightness(tmp_path: Path, bits: int, name: str) -> None:
    ramp = np.linspace(0, (1 << bits) - 1, 256).astype(np.uint16)[None].repeat(4, 0)
    Image.fromarray(ramp).save(tmp_path / name)
    seen = np.asarray(open_image(tmp_path / name))[0, :, 0].astype(int)
    assert np.abs(seen - np.arange(256)).max() <= 1


def test_a_tiff_that_says_what_white_is_stays_dark(tmp_path: Path) -> None:
    dark = Image.fromarray(np.full((4, 4), 1000, np.uint16))
    dark.save(tmp_path / "told.tif", tiffinfo={281: 65535})
    assert open_image(tmp_path / "told.tif").getpixel((0, 0)) == (3, 3, 3)


def test_a_caption_is_one_line(tiny: Captioner, photos: Path) -> None:
    caption = tiny.caption(photos / "0.png", num_captions=2)
    assert repr(caption) == (
        f"Caption({caption.text!r}, log_probability={caption.log_probability:.2f}, "
        f"attention {len(caption.words)} x 8 x 8, 1 more)"
    )
    bare = Caption(("a", "dog"), (-1.0, -2.0, -0.5), None, (0, 0, 1, 1))
    assert repr(bare) == "Caption('a dog', log_probability=-3.50, attention none)"


def test_a_notebook_shows_picture_words_and_maps(tiny: Captioner, photos: Path) -> None:
    caption = tiny.caption(photos / "0.png")
    shown = caption._repr_html_()
    assert shown.count("<img ") == 1 + len(caption.words)
    assert all(f"<figcaption>{word}" in shown for word in caption.words)
    (photos / "0.png").unlink()
    assert "<img " not in caption._repr_html_()
    unsafe = Caption(("<script>",), (-1.0,), None, (0, 0, 1, 1))
    assert "<script>" not in unsafe._repr_html_()


def test_types_of_public_functions_can_be_asked_for() -> None:
    import captioner.visualize

    public = (captioner.load, captioner.score, captioner.visualize.plot, open_image, Caption)
    methods = (Captioner.caption, Captioner.stream, Captioner.score, Captioner.save, Captioner.__init__)
    for each in (*public, *methods):
        assert typing.get_type_hints(each)


@pytest.mark.parametrize(
    ("caption", "told"),
    [
        ("一只黑色的狗在雪地里奔跑。", True),
        ("一只 黑色 的 狗 在 雪地 里 奔跑", False),
        ("黒い犬が雪の中を走っている", True),
        ("สุนัขสีดำวิ่งบนหิมะ", True),
        ("สุนัข สี ดำ วิ่ง บน หิมะ", False),
        ("검은 개가 눈 속을 달린다", False),
        ("a dog runs", False),
    ],
)
def test_languages_without_blanks_are_told(caption: str, told: bool, capsys: pytest.CaptureFixture[str]) -> None:
    tell_unspaced([caption] * 3, "captions.csv")
    assert ("separate the words with spaces first (jieba, MeCab, PyThaiNLP)" in capsys.readouterr().err) == told
