"""Fetches Flickr8k with Karpathy's captions and splits, and lays it out under ``data/flickr8k``.

    python tools/data/prepare_flickr8k.py --dry-run
    python tools/data/prepare_flickr8k.py

Afterwards ``data/flickr8k`` holds ``dataset_flickr8k.json`` and ``images/``: 6,000 pictures to train on, 1,000 to
validate and 1,000 to test. Its authors no longer serve it; the images come from the copy in Jason Brownlee's
repository of data sets, whose size is not published (1.1 GB) and whose MD5 is the one that the R package torchdatasets
checks its download by.
"""

from __future__ import annotations

import sys
from pathlib import Path

from download import Archive
from prepare import DataSet, main
from prepare_coco import COCO

FLICKR8K = DataSet(
    title="Flickr8k with Karpathy's splits",
    folder=Path("data/flickr8k"),
    captions=COCO.captions,
    captions_file="dataset_flickr8k.json",
    images="images",
    pictures=(
        Archive(
            "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k/Flickr8k_Dataset.zip",
            1_100_000_000,
            "md5",
            "f18a1e2920de5bd84dae7cf08ec78978",
            "images",
        ),
    ),
)

if __name__ == "__main__":
    sys.exit(main(FLICKR8K))
