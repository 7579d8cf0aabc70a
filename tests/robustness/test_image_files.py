"""Pictures as they come: damaged in every way, of every format, never more than one line of complaint."""

from __future__ import annotations

import io
import os
import random
import socket
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from captioner.cli import main
from captioner.data.folders import find_images
from captioner.data.images import limit_pixels, open_image
from captioner.errors import CaptionerError

Image.init()
FORMATS = sorted(Image.SAVE.keys() & Image.OPEN.keys() - {"BUFR", "GRIB", "HDF5", "WMF"})
"""What Pillow both reads and writes by itself."""

CUTS = (0, 1, 4, 11, 30, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)
"""Bytes that are left, or the share of them."""

FLIPS = 12
PIXELS = 2_000_000

pytestmark = pytest.mark.filterwarnings("ignore:IM image format")


@pytest.fixture(autouse=True)
def small_limit() -> Iterator[None]:
    usual = Image.MAX_IMAGE_PIXELS
    limit_pixels(PIXELS)
    yield
    Image.MAX_IMAGE_PIXELS = usual


def good(kind: str) -> bytes:
    """A small noisy picture in a format, in the first mode that it can hold."""
    noise = Image.effect_noise((37, 29), 80).convert("RGB")
    for mode in ("RGB", "RGBA", "P", "L", "1"):
        buffer = io.BytesIO()
        try:
            noise.convert(mode).save(buffer, kind)
        except (OSError, ValueError, KeyError):
            continue
        return buffer.getvalue()
    raise AssertionError(kind)


def is_told(content: bytes) -> bool:
    """Whether the picture was refused; what is neither refused in one line nor read fails the test."""
    try:
        image = open_image(content)
    except CaptionerError as error:
        message = str(error)
    else:
        assert image.mode == "RGB"
        assert image.width * image.height > 0
        return False
    assert message.startswith("the given bytes: ")
    assert "\n" not in message
    return True


def damaged(kind: str) -> Iterator[tuple[str, bytes]]:
    content = good(kind)
    for cut in CUTS:
        yield f"cut-{cut}", content[: cut if isinstance(cut, int) else int(cut * len(content))]
    chance = random.Random(kind)
    for number in range(FLIPS):
        flipped = bytearray(content)
        for _ in range(1 + number % 4):
            # Half of them in the header, where they do most.
            place = chance.randrange(min(64, len(content)) if number % 2 else len(content))
            flipped[place] ^= 1 << chance.randrange(8)
        yield f"flip-{number}", bytes(flipped)
    for other in ("JPEG", "PNG", "GIF", "TIFF", "BMP"):
        if other != kind:
            yield f"header-{other}", good(other)[:16] + content[16:]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_is_read_or_told_in_one_line(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    if kind != "EPS":
        assert not is_told(good(kind))
    outcomes = [is_told(content) for _, content in damaged(kind)]
    assert any(outcomes)
    assert capfd.readouterr() == ("", "")


def test_a_folder_of_damaged_files_gives_a_line_each(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "damaged"
    folder.mkdir()
    for kind in FORMATS:
        # Whatever is in them, they are called .jpg: the content tells the format.
        (folder / f"{kind}-whole.jpg").write_bytes(good(kind))
        for name, content in list(damaged(kind))[::3]:
            (folder / f"{kind}-{name}.jpg").write_bytes(content)
    files = sorted(str(path) for path in folder.iterdir())
    assert len(files) > 200
    assert main(["caption", str(folder), "--model", str(checkpoint), "--beam-size", "1"]) == 1
    printed = capfd.readouterr()
    captioned = [line.split("\t")[0] for line in printed.out.splitlines()]
    told = [line.split(": ")[1] for line in printed.err.splitlines()]
    assert sorted(captioned + told) == files
    assert {f"{folder}/{kind}-whole.jpg" for kind in FORMATS} - {f"{folder}/EPS-whole.jpg"} <= set(captioned)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_are_told(content: bytes) -> None:
    is_told(content)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FORMATS), st.integers(0, 40), st.binary(max_size=60))
def test_a_header_with_random_bytes_after_it_is_told(kind: str, length: int, content: bytes) -> None:
    is_told(good(kind)[:length] + content)


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def test_a_decompression_bomb_is_refused_by_a_limit_that_can_be_set(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CaptionerError, match=r"has more than 2,000,000 pixels; .* raise max_pixels$"):
        open_image(png(60_000, 60_000))
    Image.new("RGB", (100, 100)).save(tmp_path / "image.png")
    command = ["caption", str(tmp_path), "--model", str(checkpoint), "--max-pixels"]
    assert main([*command, "9999"]) == 1
    assert "image.png: has more than 9,999 pixels; scale it down, or raise --max-pixels\n" in capsys.readouterr().err
    assert main([*command, "10000"]) == 0
    assert main([*command, "0"]) == 2
    assert "the limit of pixels is 0; it must be at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_is_called_by_its_name(brand: bytes) -> None:
    with pytest.raises(CaptionerError, match="is a HEIC image that is damaged or truncated"):
        open_image(b"\0\0\0\x18ftyp" + brand + bytes(40))


def test_postscript_is_never_run() -> None:
    with pytest.raises(CaptionerError, match="is EPS, which is not read here"):
        open_image(good("EPS"))


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1)])
def test_any_size_is_captioned(checkpoint: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, "red").save(tmp_path / "image.png")
    assert main(["caption", str(tmp_path), "--model", str(checkpoint)]) == 0


@pytest.mark.parametrize("depth", ["uint16", "int32"])
def test_sixteen_bits_keep_their_brightness(tmp_path: Path, depth: str) -> None:
    Image.fromarray(np.full((4, 4), 200 * 256, depth)).save(tmp_path / "deep.tiff")
    assert open_image(tmp_path / "deep.tiff").getpixel((0, 0)) == (200, 200, 200)


def test_what_is_no_file_is_refused_and_never_waited_for(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    folder = tmp_path / "odd"
    folder.mkdir()
    os.mkfifo(folder / "1 pipe.jpg")
    (folder / "2 loop.jpg").symlink_to("2 loop.jpg")
    (folder / "3 nothing.jpg").symlink_to("nowhere")
    (folder / "4 device.jpg").symlink_to("/dev/zero")
    (folder / "5 folder.jpg").mkdir()
    (folder / "6 up").symlink_to("..")
    Image.new("RGB", (4, 4)).save(folder / "7 line\nbreak.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("odd/8.jpg")
        assert main(["caption", "odd", "/dev/zero", "--model", str(checkpoint)]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("odd/7 line\\nbreak.png\t")
    assert len(printed.out.splitlines()) == 1
    assert printed.err.splitlines() == [
        "captioner: odd/1 pipe.jpg: is not a regular file; give an image file",
        "captioner: odd/2 loop.jpg: cannot be read: Too many levels of symbolic links",
        "captioner: odd/3 nothing.jpg: is a link to nowhere, which is not there; point it to the file",
        "captioner: odd/4 device.jpg: is not a regular file; give an image file",
        "captioner: odd/8.jpg: is not a regular file; give an image file",
        "captioner: /dev/zero: is not a regular file; give an image file",
    ]


def test_a_folder_that_cannot_be_listed_is_named_and_the_others_are_captioned(
    checkpoint: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "1x").mkdir()
    scandir = os.scandir

    def refusing(path: str | Path) -> object:
        if os.path.basename(path) == "1x":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    with monkeypatch.context() as patched:  # what removes temporary folders needs the real one
        patched.setattr(os, "scandir", refusing)
        assert main(["caption", str(photos), "--model", str(checkpoint)]) == 1
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 3
    assert printed.err == f"captioner: {photos}/1x: cannot be read: Permission denied\n"


def test_folders_may_lie_deeper_than_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    Path("deep.jpg").touch()
    os.chdir(tmp_path)
    assert [path.name for path in find_images("d")] == ["deep.jpg"]
    # What removes temporary folders does so recursively, and would fail.
    subprocess.run(["rm", "-r", "d"], check=True)


def test_endless_standard_input_is_not_read_for_ever(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("captioner.cli.caption.LARGEST_INPUT", 1000)
    with open("/dev/zero") as zero:
        monkeypatch.setattr("sys.stdin", zero)
        assert main(["caption", "-", "--model", str(checkpoint)]) == 2
    assert "standard input: has more than 1,000 bytes" in capsys.readouterr().err
