"""Fetches COCO's images of 2014 with Karpathy's captions and splits, and lays them out under ``data/coco``.

    python tools/data/prepare_coco.py --dry-run
    python tools/data/prepare_coco.py

Afterwards ``data/coco`` holds ``dataset_coco.json``, ``train2014/`` and ``val2014/``: 113,287 pictures to train on,
5,000 to validate and 5,000 to test. It takes 20 GB to fetch and as much again unpacked.

Neither COCO nor Karpathy publishes checksums; these are those which TensorFlow Datasets checks its own downloads by
(tensorflow_datasets/url_checksums/coco_captions.txt).
"""

from __future__ import annotations

import sys
from pathlib import Path

from download import Archive
from prepare import DataSet, main

COCO = DataSet(
    title="COCO 2014 with Karpathy's splits",
    folder=Path("data/coco"),
    captions=Archive(
        "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip",
        36_745_453,
        "sha256",
        "4cfd70132527b80933105e5829dc9034eaab9573482e2e680abbab6130244817",
        ".",
    ),
    captions_file="dataset_coco.json",
    images=".",
    pictures=(
        Archive(
            "http://images.cocodataset.org/zips/val2014.zip",
            6_645_013_297,
            "sha256",
            "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
            "val2014",
        ),
        Archive(
            "http://images.cocodataset.org/zips/train2014.zip",
            13_510_573_713,
            "sha256",
            "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
            "train2014",
        ),
    ),
)

if __name__ == "__main__":
    sys.exit(main(COCO))
