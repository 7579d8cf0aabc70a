"""The feature cache: right values, whole or absent, refused when stale."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from captioner.data.features import FeatureCache, build_cache, describe_origin
from captioner.encoder import GridEncoder
from captioner.errors import CaptionerError
from captioner.images import Transform

IMAGES, VIEWS, SIZE = 3, 2, 64


@pytest.fixture(scope="module")
def encoder() -> GridEncoder:
    torch.manual_seed(1)
    return GridEncoder("resnet18").eval()


@pytest.fixture
def batches() -> list[Tensor]:
    return list(torch.randn(IMAGES, VIEWS, 3, SIZE, SIZE))


def shape_of(encoder: GridEncoder) -> tuple[int, int, int, int]:
    rows, columns = encoder.grid_shape(SIZE)
    return IMAGES, VIEWS, rows * columns, encoder.channels


def test_a_cache_gives_back_what_the_encoder_said(tmp_path: Path, encoder: GridEncoder, batches: list[Tensor]) -> None:
    path = tmp_path / "features.safetensors"
    assert list(build_cache(path, "origin", encoder, batches, shape_of(encoder))) == [2, 4, 6]
    cache = FeatureCache(path, "origin")
    for image, views in enumerate(batches):
        with torch.inference_mode():
            expected = encoder(views).half()
        for view in range(VIEWS):
            assert torch.equal(cache.grid(image, view), expected[view])
    assert torch.equal(FeatureCache(path, "origin", first=2).grid(0), cache.grid(2))
    assert load_file(path)["features"].shape == shape_of(encoder)


def test_an_interrupted_build_leaves_nothing(tmp_path: Path, encoder: GridEncoder, batches: list[Tensor]) -> None:
    def interrupted() -> Iterator[Tensor]:
        yield batches[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(build_cache(tmp_path / "features", "origin", encoder, interrupted(), shape_of(encoder)))
    assert list(tmp_path.iterdir()) == []


def test_a_cut_cache_is_refused(tmp_path: Path, encoder: GridEncoder, batches: list[Tensor]) -> None:
    path = tmp_path / "features"
    list(build_cache(path, "origin", encoder, batches, shape_of(encoder)))
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(CaptionerError, match="was cut; delete it"):
        FeatureCache(path, "origin")


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 100, b"\x02" + b"\0" * 7 + b"{}"])
def test_a_file_that_is_no_cache_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "features"
    path.write_bytes(content)
    with pytest.raises(CaptionerError, match="is damaged or no cache; delete it"):
        FeatureCache(path, "origin")


@pytest.mark.parametrize("changed", ["encoder", "weights", "transform", "images", "views"])
def test_a_stale_cache_is_refused_and_says_what_changed(
    tmp_path: Path, encoder: GridEncoder, batches: list[Tensor], changed: str
) -> None:
    picture = tmp_path / "picture.png"
    Image.new("RGB", (4, 4)).save(picture)
    old = describe_origin(encoder, Transform(SIZE), [picture], VIEWS)
    path = tmp_path / "features"
    list(build_cache(path, old, encoder, batches, shape_of(encoder)))
    FeatureCache(path, describe_origin(encoder, Transform(SIZE), [picture], VIEWS))
    other = {
        "encoder": lambda: describe_origin(GridEncoder("resnet34"), Transform(SIZE), [picture], VIEWS),
        "weights": lambda: describe_origin(GridEncoder("resnet18"), Transform(SIZE), [picture], VIEWS),
        "transform": lambda: describe_origin(encoder, Transform(SIZE, "crop"), [picture], VIEWS),
        "images": lambda: describe_origin(encoder, Transform(SIZE), [picture, picture], VIEWS),
        "views": lambda: describe_origin(encoder, Transform(SIZE), [picture], 1),
    }[changed]()
    with pytest.raises(CaptionerError, match=f"was made from other {changed} .*delete it or name another file"):
        FeatureCache(path, other)
