"""The captions that are being written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from captioner.runtime.graphs import State, Step
from captioner.text.vocabulary import END, PAD, START


@dataclass(frozen=True)
class Hypothesis:
    """One caption as word ids; see `captioner.decoding.Hypothesis`, whose attention is a tensor.

    Attributes:
        words: Ids without START and END.
        log_probabilities: Natural logarithm of the probability of each word, then of END unless the caption was cut.
        attention: Attention weights of each word, shape (words, cells); None for a model without.
        given: Number of words at the beginning that are the prompt's.
    """

    words: list[int]
    log_probabilities: list[float]
    attention: np.ndarray | None
    given: int = 0


class DecoderGraph(Protocol):
    """What searching needs of an exported captioner; see `Graphs`."""

    @property
    def recurrent(self) -> Sequence[str]:
        """Names of the parts of a state that belong to hypotheses; the others belong to images."""

    def step(self, words: np.ndarray, state: State) -> Step:
        """Advance every hypothesis by one word."""


class Candidates(NamedTuple):
    """Ways to go on: a hypothesis and its next word. Shapes (images, candidates).

    Attributes:
        parents: Which of the image's hypotheses.
        words: Id of the word, PAD for a finished one.
        log_probabilities: Of the word, 0 for a finished one.
    """

    parents: np.ndarray
    words: np.ndarray
    log_probabilities: np.ndarray

    def take(self, indices: np.ndarray) -> Candidates:
        """Chosen ones of each image, by indices of shape (images, chosen)."""
        return Candidates(*(np.take_along_axis(each, indices, 1) for each in self))


class Beams:
    """The hypotheses of all images that are not done, equally many for each image.

    Args:
        decoder: The decoder.
        state: Of the images before any word, as `Graphs.encode` gives it.
        width: Hypotheses of each image.
        active: Which of them there are at the start; the others are impossible until they are replaced.

    Attributes:
        images: Which images these are, shape (images,).
        words: Shape (images, width, words so far), PAD after END.
        log_probabilities: Of each word, shape (images, width, words so far).
        attention: Shape (images, width, words so far, cells), or None.
        scores: Log-probability of the words after the prompt, shape (images, width); -inf for what cannot be.
        lengths: Words, END included, shape (images, width).
        finished: Whether END was written, shape (images, width).
        given: Number of words at the beginning that are the prompt's.
    """

    def __init__(self, decoder: DecoderGraph, state: State, width: int, active: Sequence[int]) -> None:
        images = len(next(iter(state.values())))
        self._decoder = decoder
        self._of_images = {name: part for name, part in state.items() if name not in decoder.recurrent}
        # The rows of the last step, and which of them each hypothesis continues.
        self._recurrent: State = {name: state[name][:, None] for name in decoder.recurrent}
        self._rows = np.zeros((images, width), np.int64)
        self._attended: np.ndarray | None = None
        self.images = np.arange(images)
        self.words = np.empty((images, width, 0), np.int64)
        self.log_probabilities = np.empty((images, width, 0), np.float32)
        self.attention: np.ndarray | None = None
        self.scores = np.full((images, width), -np.inf, np.float32)
        self.scores[:, list(active)] = 0
        self.lengths = np.zeros((images, width), np.float32)
        self.finished = np.zeros((images, width), bool)
        self.given = 0

    def step(self) -> np.ndarray:
        """Advance every unfinished hypothesis by its last word.

        Returns:
            Log-probabilities of the next word, shape (images, width, vocabulary), -inf for a hypothesis that is
            finished or cannot be.
        """
        images, width = self.scores.shape
        if not self.words.shape[2]:
            step = self._decoder.step(np.full((images, 1), START), {**self._of_images, **self._recurrent})
            self._recurrent, self._rows = step.recurrent, np.zeros((images, width), np.int64)
            self._attended = None if step.attention is None else np.repeat(step.attention, width, 1)
            return np.repeat(step.log_probabilities, width, 1)
        goes_on = ~self.finished & ~np.isneginf(self.scores)
        # As many rows for each image as the one with most needs; what the spare ones give is not used.
        chosen = np.argsort(~goes_on, axis=1, kind="stable")[:, : goes_on.sum(1).max()]
        parents = np.take_along_axis(self._rows, chosen, 1)
        recurrent = {name: _rows_of(part, parents) for name, part in self._recurrent.items()}
        words = np.take_along_axis(self.words[:, :, -1], chosen, 1)
        step = self._decoder.step(words, {**self._of_images, **recurrent})
        self._recurrent = step.recurrent
        self._rows = np.where(goes_on, goes_on.cumsum(1) - 1, 0)
        self._attended = None if step.attention is None else _rows_of(step.attention, self._rows)
        log_probabilities = step.log_probabilities
        if chosen.shape[1] < width or not goes_on.all():
            log_probabilities = _rows_of(log_probabilities, self._rows)
            log_probabilities[~goes_on] = -np.inf
        return log_probabilities

    def force(self, word: int) -> None:
        """Extend every hypothesis by the next word of the prompt; their scores remain."""
        log_probabilities, scores = self.step()[:, :, word], self.scores
        itself = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
        self.extend(Candidates(itself, np.full_like(itself, word), log_probabilities))
        self.scores = scores
        self.given += 1

    def extend(self, chosen: Candidates) -> None:
        """Replaces the hypotheses by extensions of them, as many for each image as before."""
        parents, words, log_probabilities = chosen
        finished = np.take_along_axis(self.finished, parents, 1)
        self.lengths = np.take_along_axis(self.lengths, parents, 1) + ~finished
        self.scores = np.take_along_axis(self.scores, parents, 1) + log_probabilities
        self.finished = finished | (words == END)
        self.words = np.concatenate([_rows_of(self.words, parents), words[:, :, None]], 2)
        self.log_probabilities = np.concatenate(
            [_rows_of(self.log_probabilities, parents), log_probabilities[:, :, None]], 2
        )
        self._rows = np.take_along_axis(self._rows, parents, 1)
        if self._attended is not None:
            newest = _rows_of(self._attended, parents)[:, :, None]
            before = [] if self.attention is None else [_rows_of(self.attention, parents)]
            self.attention = np.concatenate([*before, newest], 2)

    def keep(self, rows: np.ndarray) -> None:
        """Drops all images but those of the given rows."""
        for name in ("images", "words", "log_probabilities", "scores", "lengths", "finished", "_rows"):
            setattr(self, name, getattr(self, name)[rows])
        if self.attention is not None:
            self.attention = self.attention[rows]
        self._of_images = {name: part[rows] for name, part in self._of_images.items()}
        self._recurrent = {name: part[rows] for name, part in self._recurrent.items()}

    def hypotheses(self, image: int, indices: Sequence[int]) -> list[Hypothesis]:
        """The captions at some places of an image's beam, without those that cannot be."""
        captions = []
        for index in indices:
            if self.scores[image, index] == -np.inf:
                continue
            length = int(self.lengths[image, index])
            words = self.words[image, index, :length].tolist()
            count = length - (words[-1] == END)
            attention = None if self.attention is None else self.attention[image, index, :count].copy()
            captions.append(
                Hypothesis(words[:count], self.log_probabilities[image, index, :length].tolist(), attention, self.given)
            )
        return captions


def score(decoder: DecoderGraph, state: State, captions: Sequence[Sequence[int]]) -> list[Hypothesis]:
    """Score given captions of one image.

    Args:
        decoder: The decoder.
        state: Of the image before any word.
        captions: Word ids, START first, END last.
    """
    length = max(map(len, captions))
    words = np.full((1, len(captions), length), PAD)
    for place, caption in enumerate(captions):
        words[0, place, : len(caption)] = caption
    recurrent = {name: np.repeat(state[name][:, None], len(captions), 1) for name in decoder.recurrent}
    of_images = {name: part for name, part in state.items() if name not in decoder.recurrent}
    scores, maps = [], []
    for position in range(length - 1):
        step = decoder.step(words[:, :, position], {**of_images, **recurrent})
        recurrent = dict(step.recurrent)
        scores.append(np.take_along_axis(step.log_probabilities[0], words[0, :, position + 1, None], 1)[:, 0])
        maps.append(step.attention)
    hypotheses = []
    for place, caption in enumerate(captions):
        targets = caption[1:]
        written = [word for word in targets if word != END]
        rows = [each[0, place] for each in maps[: len(written)] if each is not None]
        attends = maps[0] is not None
        cells = np.stack(rows) if rows else np.empty((0, 0 if maps[0] is None else maps[0].shape[2]), np.float32)
        values = [float(each[place]) for each in scores[: len(targets)]]
        hypotheses.append(Hypothesis(written, values, cells if attends else None))
    return hypotheses


def _rows_of(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of each image: from (images, n, …) by indices of shape (images, m) to (images, m, …)."""
    chosen: np.ndarray = values[np.arange(len(rows))[:, None], rows]
    return chosen
