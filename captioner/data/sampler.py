"""Sampling order of images, by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Sampler

from captioner.utils.seeding import epoch_seed

_MIXED = 16
"""Number of shards whose images are shuffled together: enough to mix batches, few enough to stay in the page cache."""


class Draw(NamedTuple):
    """One image of an epoch: its index in the dataset, and the seed of its augmentation."""

    image_index: int
    seed: int


class DrawSampler(Sampler[Draw]):
    """Samples images: reshuffled each epoch for training, in order for validation.

    Randomness depends only on the run's seed and the epoch, so that a resumed run sees the same images; validation is
    the same in every epoch. Several processes take turns. In training all draw equally many, which may repeat the
    epoch's first images at its end; in validation every image is drawn once.

    With many shards, an epoch takes the shards in random order and shuffles the images of `_MIXED` of them together, so
    that each shard is read once per epoch rather than in every step.

    Args:
        size: Number of images.
        shuffle: Whether the order changes, as in training.
        seen: The epoch to start with, and the number of its images, over all processes, that an interrupted run has
            used: they are skipped.
        rank: Rank of this process.
        processes: Number of processes.
        shards: Number of images in each shard, in the dataset's order; empty if each image is a file.
    """

    def __init__(
        self,
        size: int,
        shuffle: bool,
        seen: tuple[int, int] = (0, 0),
        rank: int = 0,
        processes: int = 1,
        shards: Sequence[int] = (),
    ) -> None:
        self.size = size
        self.shuffle = shuffle
        self.seen = seen
        self.rank = rank
        self.processes = processes
        self.shards = shards
        self.epoch = seen[0]  # workers may draw before Lightning sets the epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(range(self.rank, self.size + self._again, self.processes))

    def __iter__(self) -> Iterator[Draw]:
        generator = torch.Generator().manual_seed(epoch_seed(self.epoch if self.shuffle else 0))
        order = self._shuffled(generator) if self.shuffle else torch.arange(self.size)
        seeds = torch.randint(2**62, (self.size,), generator=generator)
        first = self.seen[1] if self.epoch == self.seen[0] else 0
        places, chances = order.numpy(), seeds.numpy()  # lists of tuples would take a hundred bytes per image
        for turn in range(first + self.rank, self.size + self._again, self.processes):
            yield Draw(int(places[turn % self.size]), int(chances[turn % self.size]))

    def _shuffled(self, generator: torch.Generator) -> Tensor:
        """Return every image once, in random order."""
        if len(self.shards) <= _MIXED:
            return torch.randperm(self.size, generator=generator)
        images = torch.arange(self.size).split(list(self.shards))  # type: ignore[no-untyped-call]
        turns = torch.randperm(len(images), generator=generator).split(_MIXED)  # type: ignore[no-untyped-call]
        together = [torch.cat([images[shard] for shard in turn.tolist()]) for turn in turns]
        return torch.cat([each[torch.randperm(len(each), generator=generator)] for each in together])

    @property
    def _again(self) -> int:
        """Number of images that are repeated, so that all processes have equally many."""
        return -self.size % self.processes if self.shuffle else 0
