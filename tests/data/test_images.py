"""Pictures as they come."""

from __future__ import annotations

import io
import os
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from processes import run
from torchvision.transforms import v2

from captioner.data.folders import find_images
from captioner.data.images import open_image
from captioner.data.transforms import Transform, to_pixels
from captioner.errors import CaptionerError


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """The colours near the four corners: top left, top right, bottom left, bottom right."""
    w, h = image.size
    return [image.getpixel(place) for place in ((1, 1), (w - 2, 1), (1, h - 2), (w - 2, h - 2))]  # type: ignore[misc]


RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quartered() -> Image.Image:
    image = Image.new("RGB", (40, 20), RED)
    for color, box in ((GREEN, (20, 0, 40, 10)), (BLUE, (0, 10, 20, 20)), (WHITE, (20, 10, 40, 20))):
        image.paste(color, box)
    return image


# How a stored picture has to be turned for each orientation, by the EXIF standard.
TURNED = {
    1: [RED, GREEN, BLUE, WHITE],
    2: [GREEN, RED, WHITE, BLUE],
    3: [WHITE, BLUE, GREEN, RED],
    4: [BLUE, WHITE, RED, GREEN],
    5: [RED, BLUE, GREEN, WHITE],
    6: [BLUE, RED, WHITE, GREEN],
    7: [WHITE, GREEN, BLUE, RED],
    8: [GREEN, WHITE, RED, BLUE],
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    quartered().save(tmp_path / "turned.png", exif=exif)
    image = open_image(tmp_path / "turned.png")
    assert image.size == ((40, 20) if orientation < 5 else (20, 40))
    assert corners(image) == TURNED[orientation]


def test_a_tag_that_nobody_needs_may_be_of_any_type(tmp_path: Path) -> None:
    # Orientation 6, then a resolution unit that is text where the standard has a number.
    tags = struct.pack("<HHHIIHHI4sI", 2, 0x0112, 3, 1, 6, 0x0128, 2, 2, b"2\0\0\0", 0)
    quartered().save(tmp_path / "turned.png", exif=b"Exif\0\0II*\0\x08\0\0\0" + tags)
    assert corners(open_image(tmp_path / "turned.png")) == TURNED[6]


@pytest.mark.parametrize("source", [None, bytearray(b"x"), io.BytesIO(b"x"), 3], ids=lambda value: type(value).__name__)
def test_what_is_no_image_is_told_by_its_type(source: Any) -> None:
    with pytest.raises(
        CaptionerError, match=f"^{type(source).__name__} is not an image; give a path, bytes, a PIL image"
    ):
        open_image(source)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (4, 4), 100), (100, 100, 100)),
        (Image.new("1", (4, 4), 1), WHITE),
        (Image.new("CMYK", (4, 4), (0, 0, 0, 0)), WHITE),
        (Image.fromarray(np.full((4, 4), 40000, np.uint16)), (156, 156, 156)),
        (Image.fromarray(np.full((4, 4), 200, np.uint16)), (200, 200, 200)),
        (Image.fromarray(np.array([[1023, 512], [256, 0]], np.uint16)), WHITE),
        (Image.fromarray(np.array([[4095, 512], [256, 0]], np.uint16)), WHITE),
        (Image.fromarray(np.array([[4095, 512], [256, 0]], np.int32)), WHITE),
        (Image.fromarray(np.array([[16383, 512], [256, 0]], np.uint16)), WHITE),
        (Image.fromarray(np.full((4, 4), 40000, np.int32)), (156, 156, 156)),
        (Image.fromarray(np.full((4, 4), 100, np.int32)), (100, 100, 100)),
        (Image.fromarray(np.full((4, 4), 0.5, np.float32)), (128, 128, 128)),
        (Image.fromarray(np.full((4, 4), 100.4, np.float32)), (100, 100, 100)),
        (Image.fromarray(np.full((4, 4), 40000, np.float32)), (156, 156, 156)),
        (Image.fromarray(np.full((4, 4), np.nan, np.float32)), (0, 0, 0)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), WHITE),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 255)), RED),
        (Image.new("LA", (4, 4), (0, 0)), WHITE),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_every_mode_becomes_rgb(tmp_path: Path, image: Image.Image, expected: tuple[int, int, int]) -> None:
    file = tmp_path / ("image.tiff" if image.mode in ("CMYK", "I", "F") else "image.png")
    image.save(file)
    opened = open_image(file)
    assert opened.mode == "RGB"
    assert opened.getpixel((0, 0)) == expected


def test_a_transparent_palette_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "palette.gif", transparency=0)
    assert open_image(tmp_path / "palette.gif").getpixel((2, 2)) == WHITE


def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "green")]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert open_image(tmp_path / "moving.webp").getpixel((4, 4)) == RED


def test_bytes_arrays_and_images_are_read_alike(tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    quartered().save(file)
    expected = np.asarray(open_image(file))
    for source in (str(file), file.read_bytes(), quartered(), np.asarray(quartered())):
        assert np.array_equal(np.asarray(open_image(source)), expected)


def damaged(tmp_path: Path, name: str) -> Path:
    file = tmp_path / name
    if name == "cut.jpg":
        Image.effect_noise((200, 200), 60).save(file)
        os.truncate(file, file.stat().st_size // 2)
    elif name == "empty.jpg":
        file.touch()
    elif name == "text.jpg":
        file.write_text("no picture")
    elif name == "folder":
        file.mkdir()
    elif name == "pipe":
        os.mkfifo(file)
    return file


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cut.jpg", "is damaged: "),
        ("empty.jpg", "is empty: get it again"),
        ("text.jpg", "is text: give an image file"),
        ("folder", "is a folder; give an image file"),
        ("pipe", "is not a regular file; give an image file"),
        ("missing.jpg", "no such file; check the path"),
    ],
)
def test_what_is_no_picture_is_told_in_one_line(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(CaptionerError) as caught:
        open_image(damaged(tmp_path, name))
    assert str(caught.value).startswith(f"{tmp_path / name}: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(4,), (4, 4, 2), (0, 4, 3)])
def test_an_array_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(CaptionerError, match="an array of"):
        open_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_any_aspect_ratio_gives_the_encoders_input(size: tuple[int, int], resize: str) -> None:
    tensor = Transform(32, resize)(Image.new("RGB", size, "red"))  # type: ignore[arg-type]
    assert tensor.shape == (3, 32, 32)
    assert tensor.isfinite().all()


def test_cropping_is_torchvisions_resize_and_center_crop() -> None:
    image = Image.effect_noise((120, 80), 90).convert("RGB")
    ours = to_pixels(Transform(40, "crop", "bilinear").scale(image))
    theirs = v2.Compose([v2.Resize(40, antialias=True), v2.CenterCrop(40), v2.PILToTensor()])(image)
    assert (ours.int() - theirs.int()).abs().max() <= 2


def test_normalizing_is_torchvisions() -> None:
    image = Image.effect_noise((32, 32), 90).convert("RGB")
    transform = Transform(32)
    theirs = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(transform.mean, transform.std)]
    )
    torch.testing.assert_close(transform(image), theirs(image))


def test_the_region_is_what_is_scaled() -> None:
    assert Transform(8, "squash").region(30, 20) == (0, 0, 30, 20)
    assert Transform(8, "crop").region(30, 20) == (5, 0, 25, 20)
    image = Image.new("RGB", (30, 20), "black")
    image.paste("white", (5, 0, 25, 20))
    assert np.asarray(Transform(8, "crop").scale(image)).min() > 200


def test_a_folder_is_walked_in_sorted_order_without_loops(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "c/d.webp", "B/e.jpeg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "c" / "loop").symlink_to(tmp_path)
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["B/e.jpeg", "a.PNG", "b.jpg", "c/d.webp"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("size", 0, "image size 0"),
        ("resize", "pad", "resize 'pad' is unknown"),
        ("interpolation", "x", "interpolation"),
    ],
)
def test_a_senseless_transform_is_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(CaptionerError, match=message):
        Transform(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "decoded"), [((4000, 3000), (1000, 750)), ((640, 480), (640, 480)), ((900, 448), (900, 448))]
)
def test_a_large_jpeg_is_decoded_no_larger_than_needed(
    size: tuple[int, int], decoded: tuple[int, int], tmp_path: Path
) -> None:
    smooth = np.linspace(0, 255, size[0])[None, :] * np.linspace(0.2, 1, size[1])[:, None]
    Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / "photo.jpg", quality=95)
    transform = Transform(224)
    small = open_image(tmp_path / "photo.jpg", transform.enough)
    assert small.size == decoded
    whole = open_image(tmp_path / "photo.jpg")
    assert whole.size == size
    difference = np.asarray(transform.scale(small), float) - np.asarray(transform.scale(whole), float)
    assert np.abs(difference).max() <= 2


def test_a_turned_jpeg_is_turned_at_any_size(tmp_path: Path) -> None:
    photo = Image.new("RGB", (2000, 1500), "white")
    photo.paste("red", (0, 0, 2000, 300))
    exif = photo.getexif()
    exif[0x0112] = 6  # to be turned by 90° clockwise: what is stored on top belongs on the right
    photo.save(tmp_path / "turned.jpg", exif=exif)
    upright = open_image(tmp_path / "turned.jpg", 200)
    assert upright.size == (375, 500)
    red, green, _ = upright.getpixel((upright.width - 5, upright.height // 2))  # type: ignore[misc]
    assert red > 200 > 60 > green


def test_pillows_warnings_reach_nobody_however_many_threads_read(tmp_path: Path) -> None:
    picture = tmp_path / "wide.png"
    Image.new("1", (300, 100)).save(picture)
    program = (
        "import sys, warnings\n"
        "from captioner.data.images import limit_pixels, open_image\n"
        "from captioner.utils.threads import map_in_threads\n"
        "limit_pixels(40_000)\n"  # Pillow warns of more than half as many
        "assert len(map_in_threads(open_image, [sys.argv[1]] * 50, threads=4)) == 50"
    )
    done = run([sys.executable, "-c", program, picture], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
