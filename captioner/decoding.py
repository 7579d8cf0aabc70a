"""Writing captions: beam search, batched over images and beams, of any decoder with ``start`` and ``step``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from captioner.decoder import State, Step
from captioner.errors import CaptionerError
from captioner.vocabulary import END, PAD, START, UNKNOWN


@dataclass(frozen=True)
class DecodingOptions:
    """How captions are written.

    Attributes:
        beam_size: Hypotheses kept for each image; 1 is greedy decoding.
        num_captions: Captions returned for each image, at most ``beam_size``.
        max_words: Longest caption.
        length_penalty: Exponent a of the number of words (END counts) by which a log-probability is divided before
            hypotheses are compared: 0 compares log-probabilities, which favours short captions, 1 their average a word.
    """

    beam_size: int = 5
    num_captions: int = 1
    max_words: int = 20
    length_penalty: float = 0.7

    def __post_init__(self) -> None:
        for name in ("beam_size", "num_captions", "max_words"):
            if getattr(self, name) < 1:
                raise CaptionerError(f"{_title(name)} is {getattr(self, name)}; it must be at least 1")
        if self.num_captions > self.beam_size:
            raise CaptionerError(
                f"{self.num_captions} captions cannot come from a beam of {self.beam_size}; widen the beam"
            )
        if not 0 <= self.length_penalty < float("inf"):
            raise CaptionerError(f"length penalty is {self.length_penalty}; it must be a number of at least 0")


@dataclass(frozen=True)
class Hypothesis:
    """One caption as word ids.

    Attributes:
        words: Ids without START and END.
        log_probabilities: Natural logarithm of the probability of each word, then of END unless the caption was cut at
            ``max_words``.
        attention: Where the decoder looked for each word, shape (words, cells), rows sum to 1; None without attention.
    """

    words: list[int]
    log_probabilities: list[float]
    attention: Tensor | None

    @property
    def log_probability(self) -> float:
        """Natural logarithm of the caption's probability, END included unless it was cut."""
        return sum(self.log_probabilities)


class SentenceModel(Protocol):
    """What decoding needs of a decoder."""

    def start(self, grid: Tensor) -> State:
        """The state of one sentence for each image."""

    def step(self, words: Tensor, state: State, grid: Tensor) -> Step:
        """Reads one word in every sentence."""


@torch.inference_mode()
def decode(decoder: SentenceModel, grid: Tensor, options: DecodingOptions) -> list[list[Hypothesis]]:
    """Writes captions for a batch of images.

    Beam search: every step extends each of an image's hypotheses by each word and keeps the best. A finished hypothesis
    stays in the beam, unchanged, as long as no better ones push it out; an image leaves the batch when its best
    hypotheses are finished and no open one can overtake them. UNKNOWN is never written.

    Args:
        decoder: Anything with ``start`` and ``step``.
        grid: Feature vectors, shape (images, cells, channels).
        options: Width of the beam and so on.

    Returns:
        For each image its captions, the best first; fewer than ``num_captions`` only where fewer sentences exist.
    """
    beam = _Beam(decoder.start(grid), grid, options)
    results: list[list[Hypothesis]] = [[] for _ in range(len(grid))]
    while len(beam.images):
        beam.advance(decoder)
        done = beam.done()
        if done.any():
            for row in done.nonzero().flatten().tolist():
                results[int(beam.images[row])] = beam.best(row)
            beam.keep((~done).nonzero().flatten())
    return results


class _Beam:
    """The hypotheses of all images that are not done; the first axes of every tensor are (images, beam)."""

    def __init__(self, state: State, grid: Tensor, options: DecodingOptions) -> None:
        images, width = len(grid), options.beam_size
        self.options = options
        self.grid = grid
        self.state = state.repeat(width)
        self.images = torch.arange(images, device=grid.device)
        # All beams of an image begin alike: only the first may be extended.
        self.scores = torch.full((images, width), float("-inf"), device=grid.device)
        self.scores[:, 0] = 0
        self.words = torch.empty(images, width, 0, dtype=torch.long, device=grid.device)
        self.log_probabilities = torch.empty(images, width, 0, device=grid.device)
        self.lengths = torch.zeros(images, width, device=grid.device)
        self.finished = torch.zeros(images, width, dtype=torch.bool, device=grid.device)
        self.attention: Tensor | None = None  # (images, beam, words, cells)

    def advance(self, decoder: SentenceModel) -> None:
        """Extends every open hypothesis by one word and keeps the best of each image."""
        images, width = self.scores.shape
        logits, state, attention = decoder.step(self._last_words(), self.state, self.grid)
        log_probabilities = logits.float().log_softmax(-1).view(images, width, -1)
        log_probabilities[:, :, [PAD, START, UNKNOWN]] = float("-inf")
        vocabulary = log_probabilities.shape[2]
        # A finished hypothesis has one continuation, PAD, and it costs nothing.
        only_pad = torch.full((vocabulary,), float("-inf"), device=logits.device)
        only_pad[PAD] = 0
        log_probabilities = torch.where(self.finished.unsqueeze(2), only_pad, log_probabilities)

        lengths = self.lengths + (~self.finished)
        scores = self.scores.unsqueeze(2) + log_probabilities
        ranks = scores / lengths.unsqueeze(2) ** self.options.length_penalty
        best = ranks.flatten(1).topk(width, dim=1).indices  # (images, beam)
        parents, words = best // vocabulary, best % vocabulary

        self.scores = scores.flatten(1).gather(1, best)
        self.lengths = lengths.gather(1, parents)
        self.words = torch.cat([_reorder(self.words, parents), words.unsqueeze(2)], dim=2)
        chosen = log_probabilities.flatten(1).gather(1, best)
        self.log_probabilities = torch.cat([_reorder(self.log_probabilities, parents), chosen.unsqueeze(2)], dim=2)
        self.finished = self.finished.gather(1, parents) | (words == END)
        rows = (parents + torch.arange(images, device=parents.device).unsqueeze(1) * width).flatten()
        self.state = state.select(rows)
        if attention is not None:
            looked = attention[rows].view(images, width, 1, -1)
            before = None if self.attention is None else _reorder(self.attention, parents)
            self.attention = looked if before is None else torch.cat([before, looked], dim=2)

    def done(self) -> Tensor:
        """Which images are done, shape (images,): at the longest caption, or when nothing better can come."""
        options = self.options
        if self.words.shape[2] >= options.max_words:
            return torch.ones_like(self.images, dtype=torch.bool)
        ranks = self.scores / self.lengths**options.length_penalty
        wanted = ranks[:, options.num_captions - 1]
        complete = self.finished[:, : options.num_captions].all(dim=1)
        # Scores only fall as a sentence grows, while a length penalty divides them by more: an open hypothesis can rank
        # no higher than its present score over the greatest length.
        hope = (self.scores / options.max_words**options.length_penalty).masked_fill(self.finished, float("-inf"))
        done: Tensor = complete & (wanted >= hope.max(dim=1).values)
        return done

    def best(self, row: int) -> list[Hypothesis]:
        """The captions of one image."""
        hypotheses = []
        for beam in range(self.options.num_captions):
            if self.scores[row, beam] == float("-inf"):
                break
            length = int(self.lengths[row, beam])
            words = self.words[row, beam, :length].tolist()
            spoken = length - (words[-1] == END)
            attention = None if self.attention is None else self.attention[row, beam, :spoken].clone()
            hypotheses.append(
                Hypothesis(words[:spoken], self.log_probabilities[row, beam, :length].tolist(), attention)
            )
        return hypotheses

    def keep(self, rows: Tensor) -> None:
        """Drops all images but those of the given rows."""
        width = self.scores.shape[1]
        sentences = (rows.unsqueeze(1) * width + torch.arange(width, device=rows.device)).flatten()
        self.state = self.state.select(sentences, rows)
        self.grid = self.grid[rows]
        for name in ("images", "scores", "words", "log_probabilities", "lengths", "finished"):
            setattr(self, name, getattr(self, name)[rows])
        if self.attention is not None:
            self.attention = self.attention[rows]

    def _last_words(self) -> Tensor:
        if self.words.shape[2] == 0:
            return torch.full((self.scores.numel(),), START, device=self.words.device)
        return self.words[:, :, -1].flatten()


def _reorder(history: Tensor, parents: Tensor) -> Tensor:
    """Gives each hypothesis the past of its parent: (images, beam, words, …) by (images, beam)."""
    return history[torch.arange(len(parents), device=parents.device).unsqueeze(1), parents]


def _title(name: str) -> str:
    return name.replace("_", " ")
