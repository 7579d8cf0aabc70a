"""Hypotheses and the state of the beam."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from captioner.decoding.ensemble import Ensemble
from captioner.models.decoder.ragged import Layout
from captioner.text.vocabulary import END, START

SPARSE = 0.75
"""Finished images are dropped from the ensemble once at most this share is left: dropping each one by itself would
copy the tensors of all others every time."""

FEW, FINEST, SIZES = 8, 16, 8
"""More hypotheses than `FEW` are rounded up in number: to a multiple of `FINEST`, or to one of `SIZES` numbers between
a power of two and the next. Libraries of matrix products compile a kernel for each number of rows, in 1 to 3 ms."""


@dataclass(frozen=True)
class Hypothesis:
    """One caption as token ids.

    Attributes:
        words: Token ids without START and END.
        log_probabilities: Natural logarithm of the probability of each token, then of END unless the caption was cut
            at ``max_words``.
        attention: Attention weights for each token, shape (tokens, regions), rows sum to 1; the weight of a visual
            sentinel is one more region, the last. None without attention.
        given: Number of tokens at the beginning that are the prompt's.
    """

    words: list[int]
    log_probabilities: list[float]
    attention: Tensor | None
    given: int = 0

    @property
    def log_probability(self) -> float:
        """Natural logarithm of the probability of the tokens after the prompt, END included unless it was cut."""
        return sum(self.log_probabilities[self.given :])


class Candidates(NamedTuple):
    """Candidates for the next step: a hypothesis and its next token. Shapes (images, candidates).

    Attributes:
        parents: Index of the hypothesis among those of its image.
        tokens: Token ids, PAD for a finished hypothesis.
        log_probabilities: Of the tokens, 0 for a finished hypothesis.
    """

    parents: Tensor
    tokens: Tensor
    log_probabilities: Tensor

    def gather(self, indices: Tensor) -> Candidates:
        """Select candidates of each image by their indices, shape (images, selected)."""
        return Candidates(*(each.gather(1, indices) for each in self))


class BeamSnapshot(NamedTuple):
    """The hypotheses of finished images; the fields are those of `BeamState`."""

    images: Tensor
    tokens: Tensor
    log_probabilities: Tensor
    scores: Tensor
    lengths: Tensor
    attention: Tensor | None
    given: int

    def hypotheses(self, row: int, indices: Sequence[int]) -> list[Hypothesis]:
        """Hypotheses of one image in the order of the given indices, without the impossible ones."""
        hypotheses = []
        for index in indices:
            if self.scores[row, index] == -math.inf:
                continue
            length = int(self.lengths[row, index])
            tokens = self.tokens[row, index, :length].tolist()
            spoken = length - (tokens[-1] == END)
            attention = None if self.attention is None else self.attention[row, index, :spoken].clone()
            log_probabilities = self.log_probabilities[row, index, :length].tolist()
            hypotheses.append(Hypothesis(tokens[:spoken], log_probabilities, attention, self.given))
        return hypotheses


class BeamState:
    """The hypotheses of all unfinished images, equally many for each image.

    Args:
        ensemble: The decoders in their initial state: one hypothesis per image, since all begin alike.
        images: Number of images.
        width: Hypotheses per image.
        active: Indices of the hypotheses that are active at the start; the others are impossible until replaced.

    Attributes:
        images: Indices of the unfinished images, shape (images,).
        tokens: Token ids, shape (images, width, steps so far), PAD after END.
        scores: Log-probabilities of the tokens after the prompt, shape (images, width); -inf for an impossible
            hypothesis.
        lengths: Numbers of tokens, END included, shape (images, width).
        finished: Mask of the hypotheses that have ended, shape (images, width).
        given: Number of tokens at the beginning that are the prompt's.
    """

    def __init__(self, ensemble: Ensemble, images: int, width: int, active: Sequence[int]) -> None:
        device = ensemble.grids[0].device
        self.ensemble = ensemble
        self.images = torch.arange(images, device=device)
        self.tokens = torch.empty(images, width, 0, dtype=torch.long, device=device)
        self.log_probabilities = torch.empty(images, width, 0, device=device)
        self.attention: Tensor | None = None  # (images, width, steps so far, regions)
        self.scores = torch.full((images, width), -math.inf, device=device)
        self.scores[:, list(active)] = 0
        self.lengths = torch.zeros(images, width, device=device)
        self.finished = torch.zeros(images, width, dtype=torch.bool, device=device)
        self.given = 0
        self._attended: Tensor | None = None
        # The index of each image in the ensemble, and of the hypothesis there that each one here continues.
        self._held = torch.arange(images, device=device)
        self._rows = self._held.unsqueeze(1).expand(images, width)

    def step(self) -> Tensor:
        """Advance every unfinished hypothesis by its last token.

        Returns:
            Log-probabilities of the next token, shape (images, width, vocabulary); after the first step -inf for a
            finished or impossible hypothesis.
        """
        width = self.scores.shape[1]
        if not self.tokens.shape[2]:
            log_probabilities, attended = self.ensemble.step(torch.full_like(self.images, START))
            self._attended = None if attended is None else attended.unsqueeze(1).expand(-1, width, -1)
            return log_probabilities.unsqueeze(1).repeat(1, width, 1)
        if len(self._held) <= SPARSE * self.ensemble.images:
            self.ensemble.keep(self._held)
            self._held = torch.arange(len(self._held), device=self._held.device)
        goes_on = ~self.finished & ~self.scores.isneginf()
        indices = goes_on.flatten().nonzero().squeeze(1)
        count = len(indices)
        indices = _fill_up(indices)
        row = (goes_on.cumsum(1) - 1).flatten()[indices]
        layout = Layout.of(self._held[indices // width], row, self.ensemble.images)
        self.ensemble.select(self._rows.flatten()[indices], layout)
        log_probabilities, attended = self.ensemble.step(self.tokens[:, :, -1].flatten()[indices])
        indices = indices[:count]
        self._rows = self._spread(torch.arange(count, device=indices.device), indices, 0)
        self._attended = None if attended is None else self._spread(attended, indices, 0)
        return self._spread(log_probabilities, indices, -math.inf)

    def _spread(self, values: Tensor, indices: Tensor, elsewhere: float) -> Tensor:
        """Scatter values of the first hypotheses, shape (hypotheses, …), to all of them: (images, width, …)."""
        images, width = self.scores.shape
        spread = values.new_full((images * width, *values.shape[1:]), elsewhere)
        return spread.index_copy_(0, indices, values[: len(indices)]).view(images, width, *values.shape[1:])

    def force(self, token: int) -> None:
        """Extend every hypothesis by the next token of the prompt; their scores remain."""
        log_probabilities, scores = self.step()[:, :, token], self.scores
        itself = torch.arange(scores.shape[1], device=scores.device).expand(scores.shape)
        self.extend(Candidates(itself, torch.full_like(itself, token), log_probabilities))
        self.scores = scores
        self.given += 1

    def extend(self, chosen: Candidates) -> None:
        """Replace the hypotheses by candidates, as many for each image as before."""
        parents, tokens, log_probabilities = chosen
        self.lengths = self.lengths.gather(1, parents) + ~self.finished.gather(1, parents)
        self.scores = self.scores.gather(1, parents) + log_probabilities
        self.finished = self.finished.gather(1, parents) | (tokens == END)
        self.tokens = _grow(self.tokens, parents, tokens)
        self.log_probabilities = _grow(self.log_probabilities, parents, log_probabilities)
        self._rows = self._rows.gather(1, parents)
        if self._attended is not None:
            attended = _of_parents(self._attended, parents)
            self.attention = (
                attended.unsqueeze(2) if self.attention is None else _grow(self.attention, parents, attended)
            )

    def keep(self, rows: Tensor) -> None:
        """Drop all images but those of the given rows."""
        for name in ("images", "tokens", "log_probabilities", "scores", "lengths", "finished", "_held", "_rows"):
            setattr(self, name, getattr(self, name)[rows])
        if self.attention is not None:
            self.attention = self.attention[rows]

    def snapshot(self, rows: Tensor) -> BeamSnapshot:
        """Copy the hypotheses of some images to the CPU, to be read value by value."""
        return BeamSnapshot(
            images=self.images[rows].cpu(),
            tokens=self.tokens[rows].cpu(),
            log_probabilities=self.log_probabilities[rows].cpu(),
            scores=self.scores[rows].cpu(),
            lengths=self.lengths[rows].cpu(),
            attention=None if self.attention is None else self.attention[rows],
            given=self.given,
        )


def _fill_up(indices: Tensor) -> Tensor:
    """Repeat the last of the indices until there are as many as kernels are compiled for."""
    count = len(indices)
    multiple = max(FINEST, 2 ** count.bit_length() // (2 * SIZES))
    missing = -count % multiple if count > FEW else 0
    return torch.cat([indices, indices[-1:].expand(missing)]) if missing else indices


def _grow(history: Tensor, parents: Tensor, new: Tensor) -> Tensor:
    """Extend the history of each hypothesis's parent by one step: (images, width, steps, …) by (images, width, …)."""
    return torch.cat([_of_parents(history, parents), new.unsqueeze(2)], dim=2)


def _of_parents(values: Tensor, parents: Tensor) -> Tensor:
    """Select the values of each hypothesis's parent: (images, width, …) by (images, width)."""
    return values[torch.arange(len(parents), device=parents.device).unsqueeze(1), parents]
