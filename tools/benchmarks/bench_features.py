"""Features of a frozen CNN: making the cache beside the CNN alone, and reading one of COCO's size at random."""

from __future__ import annotations

import argparse
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from timing import add_counts, fastest

from captioner.data.feature_cache import FeatureCache, make_header
from captioner.data.folders import find_images
from captioner.data.images import open_image
from captioner.data.transforms import to_pixels
from captioner.models.backbones import WEIGHTS_NONE
from captioner.models.encoder import GridEncoder
from captioner.training.feature_extraction import encode_images
from captioner.utils.runtime import keep_freed_memory

SUMMARY = "the feature cache: seconds to make, memory to read"

COCO_SHAPE = (123_287, 1, 49, 2048)
"""Karpathy's COCO images, ResNet's 7 × 7 grid at 224 pixels."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The section's arguments."""
    parser.add_argument("--images", required=True, metavar="DIR", help="folder of photographs")
    add_counts(
        parser,
        ("--count", 500, "of them that are used"),
        ("--batch-size", 16, "images at once"),
        ("--repeats", 3, "runs of each; the fastest counts"),
        ("--reads", 20_000, "grids read of COCO's"),
    )
    parser.add_argument("--encoder", default="timm/tf_efficientnet_lite0", metavar="NAME", help="the CNN")


def measure(args: argparse.Namespace) -> list[dict[str, str | float]]:
    """Times the CNN on pixels in memory, a straightforward loop and ours; then reads a cache of COCO's size."""
    keep_freed_memory()
    encoder = GridEncoder(args.encoder, WEIGHTS_NONE).eval()
    transform = encoder.default_transform(224)
    files = list(find_images(args.images))[: args.count]
    pixels = torch.stack([to_pixels(transform.scale(open_image(file, transform.enough))) for file in files])
    starts = range(0, len(files), args.batch_size)

    @torch.inference_mode()
    def cnn_alone() -> None:
        for start in starts:
            encoder(transform.normalize(pixels[start : start + args.batch_size]))

    @torch.inference_mode()
    def one_by_one() -> None:
        for file in files:
            encoder(transform(open_image(file)).unsqueeze(0)).half()

    with tempfile.TemporaryDirectory() as folder:

        def ours() -> None:
            cache = Path(folder) / "features"
            list(encode_images(cache, "origin", encoder, transform, files, 1, args.batch_size))

        ways = {"limit: the CNN alone": cnn_alone, "image by image": one_by_one, "captioner": ours}
        seconds = fastest(ways, args.repeats)
        rows: list[dict[str, str | float]] = [
            {"what": name, "seconds": each, "times limit": each / seconds["limit: the CNN alone"], "GB": 0.0}
            for name, each in seconds.items()
        ]
        coco = Path(folder) / "coco"
        make_sparse_cache(coco, "origin", COCO_SHAPE)
        before = _resident()
        cache, chance = FeatureCache(coco, "origin"), random.Random(1)

        def read() -> None:
            for _ in range(args.reads):
                cache.grid(chance.randrange(COCO_SHAPE[0]))

        spent = _time(read)
        rows.append({"what": "COCO's cache: size on disk", "seconds": 0.0, "times limit": 0.0, "GB": _size(coco)})
        rows.append(
            {
                "what": f"COCO's cache: {args.reads:,} grids at random, memory more than before",
                "seconds": spent,
                "times limit": 0.0,
                "GB": _resident() - before,
            }
        )
    return rows


def make_sparse_cache(path: Path, origin: str, shape: tuple[int, int, int, int]) -> None:
    """A cache of zeros that takes no room on the disk."""
    header = make_header(origin, shape)
    path.write_bytes(header)
    images, views, cells, channels = shape
    os.truncate(path, len(header) + 2 * images * views * cells * channels)


def _time(way: Callable[[], None]) -> float:
    begin = time.perf_counter()
    way()
    return time.perf_counter() - begin


def _size(path: Path) -> float:
    return path.stat().st_size / 1e9


def _resident() -> float:
    """Memory that the process has now, in GB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e9
