"""Pictures of more than 8 bits a channel, against the same picture of 8."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.data.images import open_image
from captioner.errors import CaptionerError

ACROSS, DOWN = np.arange(20) * 13, np.arange(16) * 17
COLORS = np.stack(np.broadcast_arrays(ACROSS[None], 255 - DOWN[:, None], 80), -1)
GRAY = np.broadcast_to(ACROSS, (16, 20))


def deep(values: np.ndarray, bits: int) -> np.ndarray:
    """The values of 8 bits in more of them."""
    return (values * ((1 << bits) - 1) / 255).round().astype(np.uint32)


def tiff(
    values: np.ndarray, bits: int = 16, order: str = "<", apart: bool = False, packed: bool = False, **tags: int
) -> bytes:
    """A TIFF image of one strip, or of one for each plane."""
    channels = values.shape[2] if values.ndim == 3 else 1
    kind = "u" if tags.get("sample_format", 1) == 1 else "f"
    planes = np.moveaxis(values, -1, 0) if apart else [values]
    strips = [np.asarray(plane).astype(f"{order}{kind}{bits // 8}").tobytes() for plane in planes]
    strips = [zlib.compress(strip) for strip in strips] if packed else strips
    starts, start = [], 8
    for strip in strips:
        starts.append(start)
        start += len(strip) + len(strip) % 2
    known = {"photometric": 262, "max_sample_value": 281, "sample_format": 339}
    entries = {
        **{256: (4, [values.shape[1]]), 257: (4, [values.shape[0]]), 258: (3, [bits] * channels)},
        **{259: (3, [8 if packed else 1]), 262: (3, [2 if channels > 2 else 1]), 273: (4, starts)},
        **{277: (3, [channels]), 278: (4, [values.shape[0]]), 279: (4, list(map(len, strips)))},
        **{284: (3, [2 if apart else 1])},
        **({338: (3, [2])} if channels == 4 else {}),
        **{known[name]: (3, [value] * (1 if name == "photometric" else channels)) for name, value in tags.items()},
    }
    directory, rest = struct.pack(order + "H", len(entries)), b""
    end = start + 2 + 12 * len(entries) + 4
    for tag, (size, numbers) in sorted(entries.items()):
        content = struct.pack(order + {3: "H", 4: "I"}[size] * len(numbers), *numbers)
        if len(content) > 4:
            rest, content = rest + content, struct.pack(order + "I", end + len(rest))
        directory += struct.pack(order + "HHI", tag, size, len(numbers)) + content.ljust(4, b"\0")
    magic = b"II*\0" if order == "<" else b"MM\0*"
    body = b"".join(strip + bytes(len(strip) % 2) for strip in strips)
    return magic + struct.pack(order + "I", start) + body + directory + bytes(4) + rest


def read(content: bytes) -> np.ndarray:
    return np.asarray(open_image(content)).astype(int)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_colors_of_16_bits(order: str, apart: bool, packed: bool) -> None:
    assert np.array_equal(read(tiff(deep(COLORS, 16), 16, order, apart, packed)), COLORS)
    opaque = np.concatenate([deep(COLORS, 16), np.full((16, 20, 1), 65535)], 2)
    assert np.array_equal(read(tiff(opaque, 16, order, apart, packed)), COLORS)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_colors_that_fill_fewer_bits(bits: int, order: str, packed: bool) -> None:
    assert np.array_equal(read(tiff(deep(COLORS, bits), 16, order, packed=packed)), COLORS)
    dark = deep(COLORS, 8) // 8
    assert np.array_equal(read(tiff(dark << (bits - 8), 16, order, max_sample_value=(1 << bits) - 1)), dark)


def test_colors_that_fill_fewer_bits_of_planes_apart() -> None:
    assert np.array_equal(read(tiff(deep(COLORS, 12), apart=True)), COLORS)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_gray_whose_white_is_0(bits: int) -> None:
    values = (1 << bits) - 1 - deep(GRAY, bits)
    assert np.array_equal(read(tiff(values, photometric=0, max_sample_value=(1 << bits) - 1))[..., 0], GRAY)


def test_gray_of_32_bits() -> None:
    assert np.array_equal(read(tiff(deep(GRAY, 32), 32))[..., 1], GRAY)


def test_what_is_not_read_is_told_from_what_is_damaged() -> None:
    content = tiff(COLORS / 255, 32, sample_format=3)
    with pytest.raises(CaptionerError, match="TIFF image with channels that are not read here; convert it to 8 or 16"):
        open_image(content)
    with pytest.raises(CaptionerError, match="is a TIFF image that is damaged or truncated; get a complete copy"):
        open_image(content[:100])


@pytest.mark.parametrize(("kind", "name"), [("AVIF", "an AVIF"), ("PNG", "a PNG"), ("HEIF", "a HEIC")])
def test_a_header_that_was_cut_is_told(kind: str, name: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, kind)
    with pytest.raises(CaptionerError, match=f"is {name} image that is damaged or truncated; get a complete copy"):
        open_image(file.getvalue()[:14])


@pytest.mark.parametrize("bits", [10, 12])
def test_heic_of_more_bits(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif")
    monkeypatch.setattr(heif.options, "SAVE_HDR_TO_12_BIT", bits == 12)
    file = io.BytesIO()
    content = deep(COLORS, 16).astype("<u2").tobytes()
    heif.encode("RGB;16", (20, 16), content, file, quality=-1, chroma=444)
    assert abs(read(file.getvalue()) - COLORS).max() <= 1


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("values", [COLORS, GRAY], ids=["colors", "gray"])
def test_avif_of_more_bits(values: np.ndarray, bits: int, tmp_path: Path) -> None:
    encoder = shutil.which("avifenc")  # Pillow writes 8 bits only
    if encoder is None:
        pytest.skip("avifenc is not installed (Debian: libavif-bin)")
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / "image.png")
    layout = "444" if values.ndim == 3 else "400"
    command = [encoder, "--min", "0", "--max", "0", "--depth", str(bits), "--yuv", layout, "image.png", "image.avif"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    found = np.asarray(open_image(tmp_path / "image.avif")).astype(int)
    # Colors are stored as YUV, whose conversion rounds twice.
    assert abs(found - (values if values.ndim == 3 else values[..., None])).max() <= 2
