"""LightningDataModule for text: a stream cut into consecutive chunks, for truncated back-propagation."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from captioner.data.text_files import read_lines, read_text
from captioner.errors import CaptionerError
from captioner.text.vocabulary import END, START, Unit, Vocabulary, split_text
from captioner.training.checkpointing import progress
from captioner.utils.seeding import epoch_seed, refuse_another_seed, run_seed

LONG_TRACK = 1000
"""Minimum words of a held-out track, if there are several: each starts without context, which raises the perplexity of
a small text by a percent or two."""


class Stream(Dataset[Tensor]):
    """The ids of all lines, each from START to END, in one array.

    Args:
        lines: The ids of each line.
    """

    def __init__(self, lines: Sequence[Sequence[int]]) -> None:
        self.lengths = torch.tensor([len(line) for line in lines])
        self.ids = torch.tensor([id_ for line in lines for id_ in line])

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, indices: Tensor) -> Tensor:
        """The ids at positions of the stream, in the positions' shape."""
        return self.ids[indices]


class ChunkSampler(Sampler[Tensor]):
    """Divides the stream into parallel tracks of chunks, each of which continues the one before.

    A rest of the stream that does not fill a step of all tracks is dropped.

    Args:
        stream: The text.
        tracks: Number of parallel tracks.
        steps: Input words of a chunk; it has one more, the last target, with which the next chunk begins.
        shuffle: Whether to shuffle lines each epoch.
        seen: The epoch to begin with, and the number of its chunks that an interrupted run has used: they are skipped.
    """

    def __init__(self, stream: Stream, tracks: int, steps: int, shuffle: bool, seen: tuple[int, int] = (0, 0)) -> None:
        self.stream = stream
        self.tracks = tracks
        self.steps = steps
        self.shuffle = shuffle
        self.seen = seen
        self.epoch = seen[0]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; called by Lightning."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-(len(self.stream) // self.tracks - 1) // self.steps)

    def __iter__(self) -> Iterator[Tensor]:
        length = len(self.stream) // self.tracks
        indices = self._order()[: self.tracks * length].view(self.tracks, length)
        first = self.seen[1] if self.epoch == self.seen[0] else 0
        for chunk in range(first, len(self)):
            yield indices[:, chunk * self.steps : (chunk + 1) * self.steps + 1]

    def _order(self) -> Tensor:
        """Positions in the stream, line after line in this epoch's order."""
        lengths = self.stream.lengths
        if not self.shuffle:
            return torch.arange(len(self.stream))
        order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(epoch_seed(self.epoch)))
        starts, lengths = (lengths.cumsum(0) - lengths)[order], lengths[order]
        shift = starts - (lengths.cumsum(0) - lengths)  # from a line's new position to its old one
        return torch.arange(len(self.stream)) + shift.repeat_interleave(lengths)


class TextData(lightning.LightningDataModule):
    """Text for a language model.

    Args:
        text: Text files, one sentence a line, or JSON lines of captions; see `captioner.data.text_files.read_text`.
        unit: What is read: ``words``, as the tokeniser of the COCO scores splits them, ``characters``, or ``tokens``,
            which spaces divide, for text that was tokenized before.
        min_count: Words or characters that are rarer in the training lines become UNKNOWN.
        batch_size: Tracks that are read side by side.
        steps: Words read before the weights change: gradients reach back so far, the state beyond.
        shuffle: Whether lines come in a new order each epoch: right for captions, wrong for a book.
        held_out: Share of the lines that is held out, where the files do not say, in (0, 1).
        held_out_text: Text files for validation, in the same forms; all of ``text`` is then for training.
    """

    def __init__(
        self,
        text: list[str] | str,
        unit: Unit = "words",
        min_count: int = 5,
        batch_size: int = 32,
        steps: int = 35,
        shuffle: bool = True,
        held_out: float = 0.05,
        held_out_text: list[str] | str | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("min_count", min_count), ("batch_size", batch_size), ("steps", steps)):
            if value < 1:
                raise CaptionerError(f"data.{name} is {value}; it must be at least 1")
        if not 0 < held_out < 1:
            raise CaptionerError(f"data.held_out is {held_out}; it must be greater than 0 and less than 1")
        self.files = [text] if isinstance(text, str) else text
        self.held_out_files = [held_out_text] if isinstance(held_out_text, str) else held_out_text or []
        self.unit = unit
        self.min_count = min_count
        self.batch_size = batch_size
        self.steps = steps
        self.shuffle = shuffle
        self.held_out = held_out
        self._seen = (0, 0)

    @cached_property
    def lines(self) -> tuple[list[list[str]], list[list[str]]]:
        """The tokens of the lines for training and for validation."""
        if self.held_out_files:
            texts = [
                [line for file in files for line in read_lines(file)] for files in (self.files, self.held_out_files)
            ]
        else:
            parts = [read_text(file, self.held_out) for file in self.files]
            texts = [[line for part in parts for line in part[k]] for k in (0, 1)]
        train, val = ([split_text(line, self.unit) for line in text] for text in texts)
        return train, val

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words or characters of the training lines."""
        return Vocabulary.from_counts(Counter(part for line in self.lines[0] for part in line), self.min_count)

    def describe(self) -> dict[str, Any]:
        """Describe the data in plain values, for the model card."""
        train, val = self.lines
        return {
            "files": [os.path.basename(file) for file in self.files],
            "training lines": len(train),
            f"training {self.unit}": sum(map(len, train)),
            "validation lines": len(val),
            "vocabulary": f"{len(self.vocabulary)} {self.unit} seen {self.min_count} times or more in training lines",
        }

    def setup(self, stage: str) -> None:
        """Build the streams; called by Lightning."""
        if self.trainer is not None and self.trainer.world_size > 1:
            raise CaptionerError("a language model is trained by one process; set trainer.devices to 1")
        ids = self.vocabulary.id
        self.train, self.val = (Stream([[START, *map(ids, line), END] for line in part]) for part in self.lines)
        if len(self.train) < 2 * self.batch_size:
            raise CaptionerError(
                f"{', '.join(self.files)}: {len(self.train)} {self.unit} of training text do not fill "
                f"{self.batch_size} tracks; lower data.batch_size or add text"
            )

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Consecutive training chunks."""
        return self._loader(ChunkSampler(self.train, self.batch_size, self.steps, self.shuffle, self._seen))

    def val_dataloader(self) -> DataLoader[Tensor]:
        """Consecutive validation chunks, in the file's order."""
        tracks = max(1, min(self.batch_size, len(self.val) // LONG_TRACK))
        return self._loader(ChunkSampler(self.val, tracks, self.steps, shuffle=False))

    def state_dict(self) -> dict[str, Any]:
        """The epoch that is to be continued, and the number of its chunks seen; for the checkpoint."""
        assert self.trainer is not None
        epoch, chunks = progress(self.trainer)
        return {"epoch": epoch, "chunks": chunks, "shape": self._shape, "seed": run_seed()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint's run was.

        Raises:
            CaptionerError: The seed differs, or the chunks of an unfinished epoch do.
        """
        refuse_another_seed(state_dict)
        if state_dict["chunks"] and state_dict.get("shape", self._shape) != self._shape:
            raise CaptionerError(
                "the checkpoint to resume from is within an epoch of other chunks (text, data.batch_size, data.steps: "
                f"{state_dict['shape']}, not {self._shape}); resume with them, or from an epoch's end"
            )
        self._seen = state_dict["epoch"], state_dict["chunks"]

    @property
    def _shape(self) -> list[int]:
        """The settings that determine an epoch's chunks."""
        return [len(self.train), self.batch_size, self.steps]

    def _loader(self, sampler: ChunkSampler) -> DataLoader[Tensor]:
        return DataLoader(sampler.stream, batch_size=None, sampler=sampler, generator=torch.Generator())
