"""The order in which images are drawn, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from captioner.utils.seeding import epoch_seed


class Draw(NamedTuple):
    """One image of one epoch: its place in the dataset, and the seed of all that is left to chance about it."""

    image_index: int
    seed: int


class DrawSampler(Sampler[Draw]):
    """Draws images: shuffled anew each epoch for training, in order for validation.

    All chance comes from the run's seed and the epoch, none from what ran before or how many workers load, so that a
    resumed run sees what the interrupted one would have seen; in validation all epochs draw the same, to be compared.
    Of several processes, each takes its turns in the same order: in training all as many, for which the first images of
    the epoch come again at its end where the number does not divide; in validation every image is drawn once.

    Args:
        size: Number of images.
        shuffle: Whether the order changes, as in training.
        seen: The epoch to begin with, and how many of its images an interrupted run has seen, in all processes
            together: they are left out.
        rank: Which of the processes draws.
        processes: How many there are.
    """

    def __init__(
        self, size: int, shuffle: bool, seen: tuple[int, int] = (0, 0), rank: int = 0, processes: int = 1
    ) -> None:
        self.size = size
        self.shuffle = shuffle
        self.seen = seen
        self.rank = rank
        self.processes = processes
        self.epoch = seen[0]  # workers may draw before Lightning tells the epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(range(self.rank, self.size + self._again, self.processes))

    def __iter__(self) -> Iterator[Draw]:
        generator = torch.Generator().manual_seed(epoch_seed(self.epoch if self.shuffle else 0))
        order = torch.randperm(self.size, generator=generator) if self.shuffle else torch.arange(self.size)
        seeds = torch.randint(2**62, (self.size,), generator=generator)
        first = self.seen[1] if self.epoch == self.seen[0] else 0
        places, chances = order.numpy(), seeds.numpy()  # as lists of tuples they would take a hundred bytes an image
        for turn in range(first + self.rank, self.size + self._again, self.processes):
            yield Draw(int(places[turn % self.size]), int(chances[turn % self.size]))

    @property
    def _again(self) -> int:
        """Images that are drawn twice, so that no process waits for another that has ended its epoch."""
        return -self.size % self.processes if self.shuffle else 0
