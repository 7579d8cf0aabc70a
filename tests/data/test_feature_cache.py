"""The feature cache: right values, whole or absent, refused when stale."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from bench_features import make_sparse_cache
from PIL import Image
from processes import run
from safetensors.torch import load_file

from captioner.data.feature_cache import FeatureCache
from captioner.data.images import open_image
from captioner.data.transforms import Transform
from captioner.errors import CaptionerError
from captioner.models.encoder import GridEncoder
from captioner.training.feature_extraction import describe_origin, encode_images

VIEWS, SIZE = 2, 64


@pytest.fixture(scope="module")
def encoder() -> GridEncoder:
    torch.manual_seed(1)
    return GridEncoder("resnet18").eval()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Seven files, each another noise."""
    files = [tmp_path / f"{number}.png" for number in range(7)]
    for number, file in enumerate(files):
        Image.effect_noise((50, 40 + number), 100).convert("RGB").save(file)
    return files


def test_encoded_images_are_what_the_encoder_says_of_each(
    tmp_path: Path, encoder: GridEncoder, pictures: list[Path]
) -> None:
    path, transform = tmp_path / "new" / "features", Transform(SIZE)
    assert list(encode_images(path, "origin", encoder, transform, pictures, VIEWS, batch=3)) == [0, 3, 6, 7]
    cache = FeatureCache(path, "origin")
    for number, picture in enumerate(pictures):
        seen = transform(open_image(picture))
        with torch.inference_mode():
            expected = encoder(torch.stack([seen, seen.flip(-1)]))
        for view in range(VIEWS):
            torch.testing.assert_close(cache.grid(number, view).float(), expected[view], rtol=2e-3, atol=1e-3)
    assert [file.name for file in path.parent.iterdir()] == ["features"]
    assert torch.equal(FeatureCache(path, "origin", first=2).grid(0), cache.grid(2))
    assert load_file(path)["features"].shape == (len(pictures), VIEWS, 4, encoder.channels)


def test_an_interrupted_build_is_gone_on_with(tmp_path: Path, encoder: GridEncoder, pictures: list[Path]) -> None:
    def encode(name: str, origin: str = "origin") -> Iterator[int]:
        return encode_images(tmp_path / name, origin, encoder, Transform(SIZE), pictures, VIEWS, batch=2)

    list(encode("whole"))
    interrupted = encode("later")
    assert [next(interrupted) for _ in range(3)] == [0, 2, 4]
    with pytest.raises(CaptionerError, match="later: another process is making this feature cache"):
        next(encode("later"))
    del interrupted
    with (tmp_path / ".later.part").open("ab") as file:
        file.write(b"part of an image")
    assert not (tmp_path / "later").exists()
    assert list(encode("later")) == [4, 6, 7]
    assert (tmp_path / "later").read_bytes() == (tmp_path / "whole").read_bytes()


def test_what_is_left_of_another_job_is_not_gone_on_with(
    tmp_path: Path, encoder: GridEncoder, pictures: list[Path]
) -> None:
    job = tmp_path / "features", "one", encoder, Transform(SIZE), pictures, VIEWS, 2
    interrupted = encode_images(*job)
    assert [next(interrupted), next(interrupted)] == [0, 2]
    del interrupted
    assert next(encode_images(job[0], "other", *job[2:])) == 0


def test_a_cache_that_does_not_fit_is_refused_at_once(
    tmp_path: Path, encoder: GridEncoder, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    build = encode_images(tmp_path / "features", "origin", encoder, Transform(SIZE), pictures, 1, 2)
    with pytest.raises(CaptionerError, match="features: needs 28,672 bytes more, 1,000 are free; make room"):
        next(build)


def test_another_process_reads_the_same(tmp_path: Path, encoder: GridEncoder, pictures: list[Path]) -> None:
    path = tmp_path / "features"
    list(encode_images(path, "origin", encoder, Transform(SIZE), pictures, VIEWS, 2))
    cache = FeatureCache(path, "origin", first=1)
    again = pickle.loads(pickle.dumps(cache))
    assert torch.equal(again.grid(1, 1), cache.grid(1, 1))


def test_reading_all_of_a_large_cache_keeps_little_of_it_in_memory(tmp_path: Path) -> None:
    path, images, cells, channels = tmp_path / "sparse", 3000, 49, 2048
    program = (
        "import random, resource, sys\n"
        "from pathlib import Path\n"
        "from captioner.data.feature_cache import FeatureCache\n"
        "cache = FeatureCache(Path(sys.argv[1]), 'origin')\n"
        "cache.grid(0)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"for image in random.Random(1).sample(range({images}), {images}): cache.grid(image)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    make_sparse_cache(path, "origin", (images, 1, cells, channels))
    done = run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < path.stat().st_size / 10


def test_a_cut_cache_is_refused(tmp_path: Path, encoder: GridEncoder, pictures: list[Path]) -> None:
    path = tmp_path / "features"
    list(encode_images(path, "origin", encoder, Transform(SIZE), pictures, VIEWS, 2))
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(CaptionerError, match="was cut; delete it"):
        FeatureCache(path, "origin")


def test_a_cache_that_is_cut_while_it_is_read_is_refused(
    tmp_path: Path, encoder: GridEncoder, pictures: list[Path]
) -> None:
    path = tmp_path / "features"
    list(encode_images(path, "origin", encoder, Transform(SIZE), pictures, VIEWS, 2))
    cache = FeatureCache(path, "origin")
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(CaptionerError, match="was cut; delete it"):
        cache.grid(len(pictures) - 1, VIEWS - 1)


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 100, b"\x02" + b"\0" * 7 + b"{}"])
def test_a_file_that_is_no_cache_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "features"
    path.write_bytes(content)
    with pytest.raises(
        CaptionerError, match="is damaged or no feature cache; name another file, or delete it if it is one"
    ):
        FeatureCache(path, "origin")


@pytest.mark.parametrize("changed", ["encoder", "weights", "transform", "images", "views"])
def test_a_stale_cache_is_refused_and_says_what_changed(
    tmp_path: Path, encoder: GridEncoder, pictures: list[Path], changed: str
) -> None:
    picture = tmp_path / "picture.png"
    Image.new("RGB", (4, 4)).save(picture)
    old = describe_origin(encoder, Transform(SIZE), [picture], VIEWS)
    path = tmp_path / "features"
    list(encode_images(path, old, encoder, Transform(SIZE), pictures, VIEWS, 2))
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
