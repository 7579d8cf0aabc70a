"""HEIC, which phones write, and the silence of the C library that reads TIFF."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from captioner.cli import main
from captioner.data.images import open_image
from captioner.errors import CaptionerError


@pytest.fixture
def heic(tmp_path: Path) -> Path:
    """A picture whose left half is blue, stored lying on its side as a phone held upright does."""
    writer = pytest.importorskip("pillow_heif")
    image = Image.new("RGB", (96, 64), "red")
    image.paste("blue", (0, 0, 48, 64))
    turned = image.transpose(Image.Transpose.ROTATE_90)  # EXIF's 6 turns it back, clockwise
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "photo.heic"
    writer.from_pillow(turned).save(path, quality=95, exif=exif.tobytes())
    return path


def test_heic_is_read_upright(heic: Path) -> None:
    pytest.importorskip("pi_heif")
    for source in (heic, heic.read_bytes()):
        image = open_image(source)
        assert (image.size, image.mode) == ((96, 64), "RGB")
        left, right = image.getpixel((10, 30)), image.getpixel((85, 30))
        assert isinstance(left, tuple)
        assert isinstance(right, tuple)
        assert (left[2] > 200, left[0] < 50, right[0] > 200, right[2] < 50) == (True,) * 4


def test_a_phones_folder_is_captioned(heic: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pi_heif")
    heic.with_suffix(".HEIF").write_bytes(heic.read_bytes())
    assert main(["caption", str(heic.parent), "--model", str(checkpoint)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_half_a_heic_is_told(heic: Path) -> None:
    pytest.importorskip("pi_heif")
    whole = heic.read_bytes()
    for length in (16, 100, len(whole) // 2, len(whole) - 10):
        heic.write_bytes(whole[:length])
        with pytest.raises(CaptionerError, match=r"photo\.heic: is a HEIC image that is damaged or truncated"):
            open_image(heic)


def test_without_the_extra_the_error_names_it(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    for opener in [name for name in Image.OPEN if name in ("HEIF", "HEIC")]:
        monkeypatch.delitem(Image.OPEN, opener)
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name not in ("HEIF", "HEIC")])
    (tmp_path / "photo.heic").write_bytes(b"\x00\x00\x00\x1cftypheic" + bytes(20))
    assert main(["caption", str(tmp_path / "photo.heic"), "--model", str(checkpoint)]) == 1
    assert capsys.readouterr().err == (
        f"captioner: {tmp_path / 'photo.heic'}: is HEIC, for which there is no decoder here; install one with pip "
        "install 'captioner[heic]', or convert it to JPEG or PNG\n"
    )


def test_libtiff_writes_nothing_on_the_terminal(
    tmp_path: Path, checkpoint: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, damaged = tmp_path / "whole.tif", tmp_path / "damaged.tif"
    Image.effect_noise((64, 64), 60).convert("RGB").save(whole, compression="tiff_lzw")
    content = bytearray(whole.read_bytes())
    content[200:4000] = bytes(3800)  # "LZWDecode: Not enough data", says libtiff
    damaged.write_bytes(content)
    main(["caption", str(whole), str(damaged), "--model", str(checkpoint)])
    told = capfd.readouterr()
    assert [line for line in told.err.splitlines() if not line.startswith("captioner: ")] == []
    assert len(told.out.splitlines() + told.err.splitlines()) == 2
