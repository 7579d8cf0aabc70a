"""Training from shards of a simulated data set: memory, and whether the network waits for pictures.

As many pictures as wanted are written (eight different ones of 640 × 480 pixels, each with five captions of words that
are as unevenly used as people's), then read by the data module of training. A step only sleeps, so that the time
between two steps is what it waited for its batch. Files go to the folder of temporary files: some 65 kB a picture;
TMPDIR names another.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import lightning
import torch
from PIL import Image, ImageFilter
from timing import add_counts, random_caption
from torch import Tensor

from captioner.data.dataset import Batch
from captioner.data.records import Record
from captioner.data.shard_writer import SHARD_SIZE, plan_shards, write_shard
from captioner.models.captioner import CaptionerConfig, CaptionModel
from captioner.models.decoder import DecoderConfig
from captioner.training.datamodule import CaptionData
from captioner.utils.runtime import keep_freed_memory

SUMMARY = "memory and pauses of training on tar shards of a large data set"

_DIFFERENT = 8
_LOOK_EVERY = 20
"""Steps between two looks at the memory."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The section's arguments."""
    add_counts(
        parser,
        ("--count", 123_287, "pictures, as many as COCO has"),
        ("--steps", 200, "of training"),
        ("--batch-size", 32, "pictures of a step"),
        ("--workers", 2, "processes that load pictures"),
    )
    parser.add_argument("--step-seconds", type=float, default=1.0, metavar="S", help="of a step (default: 1.0)")


def measure(args: argparse.Namespace) -> list[dict[str, str | float]]:
    """Writes the shards, reads their captions, then trains as fast as pictures come."""
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begin = time.perf_counter()
        # In a process of its own, which takes its memory with it.
        writer = multiprocessing.get_context("spawn").Process(target=write_shards, args=(folder, args.count))
        writer.start()
        writer.join()
        if writer.exitcode:
            raise SystemExit("the shards could not be written")
        written = time.perf_counter() - begin
        begin = time.perf_counter()
        data = CaptionData(str(folder / "shards"), batch_size=args.batch_size, workers=args.workers)
        data.prepare_for(lambda: CaptionModel(CaptionerConfig("resnet18", decoder=DecoderConfig()), 10))
        words = len(data.vocabulary)
        read = time.perf_counter() - begin
        steps = Steps(args.step_seconds)
        trainer = lightning.Trainer(
            accelerator="cpu", max_steps=args.steps, limit_val_batches=0, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        )  # fmt: skip
        trainer.fit(steps, datamodule=data)
    return [
        {"what": "writing shards, s", "value": written},
        {"what": f"reading captions ({words:,} words), s", "value": read},
        {"what": "first batch, s", "value": steps.waits[0]},
        {"what": "wait for a batch, median, s", "value": statistics.median(steps.waits[1:])},
        {"what": "wait for a batch, longest, s", "value": max(steps.waits[1:])},
        {"what": "memory of this process, GB", "value": max(own for own, _ in steps.memory) / 1e9},
        {"what": "memory with its loaders, GB", "value": max(sum(both) for both in steps.memory) / 1e9},
    ]


class Steps(lightning.LightningModule):
    """Trains nothing, and notes how long it waits for batches and what memory the run takes.

    Args:
        seconds: Of a step.

    Attributes:
        waits: Seconds before each step.
        memory: Bytes of this process, and of those that load pictures, now and then.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seconds = seconds
        self.waits: list[float] = []
        self.memory: list[tuple[int, int]] = []
        self._ended = time.perf_counter()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Lightning's hook."""
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def on_train_start(self) -> None:
        """Lightning's hook."""
        self._ended = time.perf_counter()

    def training_step(self, batch: Batch, number: int) -> Tensor:
        """Lightning's hook."""
        self.waits.append(time.perf_counter() - self._ended)
        time.sleep(self.seconds)
        if number % _LOOK_EVERY == 0:
            children = [child.pid for child in multiprocessing.active_children() if child.pid]
            self.memory.append((_memory("self"), sum(map(_memory, children))))
        self._ended = time.perf_counter()
        return self.weight * 0


def _memory(process: int | str) -> int:
    """Resident bytes of a process; of what several share, its part."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def write_shards(folder: Path, count: int) -> None:
    """Writes ``shards`` of so many pictures, one in fifty for validation, and the different ones beside that folder."""
    chance = random.Random(1)
    pictures = [folder / f"{number}.jpg" for number in range(_DIFFERENT)]
    for path in pictures:
        noise = [Image.effect_noise((640, 480), 90).filter(ImageFilter.GaussianBlur(1.5)) for _ in range(3)]
        Image.merge("RGB", noise).save(path, quality=85)

    def records() -> Iterator[Record]:
        for number in range(count):
            captions = tuple(random_caption(chance) for _ in range(5))
            split = "val" if number % 50 == 0 else "train"
            yield Record(pictures[number % _DIFFERENT], captions, split, number)

    for shard in plan_shards(list(records()), folder / "shards", SHARD_SIZE):
        write_shard(shard)
