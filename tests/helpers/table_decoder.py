"""A decoder whose scores are known, and every sentence that it could write."""

from __future__ import annotations

import heapq
import itertools
import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from captioner.decoding import DecodingOptions, Hypothesis
from captioner.models.decoder import Decoder, DecoderConfig, State, Step
from captioner.models.decoder.ragged import Layout
from captioner.models.decoder.state import KeyValueCache
from captioner.text.vocabulary import END, START

WORDS = 7  # the four special ones and three to speak of
SPOKEN = range(4, WORDS)

unconstrained = partial(DecodingOptions, no_repeat_ngram=0)
"""Options under which every sentence may be written."""


class TableDecoder:
    """Next-word logits looked up by image and by a hash of the words so far: nothing in common but the interface."""

    def __init__(self, seed: int, images: int, sharpness: float = 2.0, words: int = WORDS) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.table = sharpness * torch.randn(images, 1009, words, generator=generator)

    def start(self, grid: Tensor) -> State:
        image = grid[:, 0, 0].reshape(-1, 1, 1)
        return State((torch.zeros_like(image), image), KeyValueCache(), Layout(len(grid)))

    def step(self, tokens: Tensor, state: State, grid: Tensor) -> Step:
        past = (state.hidden[:, 0, 0] * 31 + tokens + 1) % 1009
        images = state.recurrent[1][:, 0, 0].long()
        attention = torch.nn.functional.one_hot(past.long() % 5, 5).float()
        return Step(
            self.table[images, past.long()],
            state._replace(recurrent=(past.reshape(-1, 1, 1), state.recurrent[1])),
            attention,
        )


class NeverEnding(TableDecoder):
    """A decoder that cannot say END."""

    def step(self, tokens: Tensor, state: State, grid: Tensor) -> Step:
        logits, state, attention = super().step(tokens, state, grid)
        return Step(logits.index_fill(1, torch.tensor([END]), -math.inf), state, attention)


def real_decoder(seed: int, channels: int) -> Decoder:
    """A small decoder with attention and random weights."""
    torch.manual_seed(seed)
    config = DecoderConfig(embedding_size=8, hidden_size=7, attention_size=5)
    decoder = Decoder(config, channels, 11).eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return decoder


def grid_of(images: int) -> Tensor:
    return torch.arange(images, dtype=torch.float).reshape(-1, 1, 1)


def score(decoder: TableDecoder, image: int, words: list[int]) -> list[float]:
    """Log-probability of each word, one at a time."""
    grid = grid_of(image + 1)[image:]
    state, last, result = decoder.start(grid), START, []
    for word in words:
        logits, state, _ = decoder.step(torch.tensor([last]), state, grid)
        result.append(logits[0].log_softmax(-1)[word].item())
        last = word
    return result


def all_sentences(max_words: int) -> list[list[int]]:
    """Every sentence that can be written: ended by END, or cut at the longest length."""
    ended = [[*s, END] for n in range(max_words) for s in itertools.product(SPOKEN, repeat=n)]
    return ended + [list(s) for s in itertools.product(SPOKEN, repeat=max_words)]


class Draft(NamedTuple):
    """A sentence on its way."""

    words: list[int]
    log_probabilities: list[float]
    state: State


def banked_beam(decoder: TableDecoder, image: int, options: DecodingOptions) -> list[tuple[list[int], list[float]]]:
    """Hokamp and Liu's search in plain lists, with a beam for each number of required words said; plain, without any.

    Returns:
        Words, END included, and their log-probabilities, the best first.
    """
    grid, required = grid_of(image + 1)[image:], set(options.required_words)
    beams: list[list[Draft]] = [[] for _ in range(len(required) + 1)]
    beams[0] = [Draft([], [], decoder.start(grid))]
    for position in range(options.max_words):
        longer: list[list[Draft]] = [[] for _ in beams]
        for said, drafts in enumerate(beams):
            for draft in drafts:
                if draft.words and draft.words[-1] == END:
                    longer[said].append(draft)
                    continue
                last = draft.words[-1] if draft.words else START
                logits, state, _ = decoder.step(torch.tensor([last]), draft.state, grid)
                following = logits[0].log_softmax(-1).tolist()
                missing = required - set(draft.words)
                for word in [*SPOKEN, END]:
                    room = 0 if word == END else options.max_words - position - 1
                    if len(missing - {word}) <= room:
                        grown = Draft([*draft.words, word], [*draft.log_probabilities, following[word]], state)
                        longer[said + (word in missing)].append(grown)
        beams = [
            heapq.nlargest(
                options.beam_size, each, lambda d: sum(d.log_probabilities) / len(d.words) ** options.length_penalty
            )
            for each in longer
        ]
    return [(draft.words, draft.log_probabilities) for draft in beams[-1]]


def spoken(hypothesis: Hypothesis) -> list[int]:
    """The words with END where there was one."""
    return hypothesis.words + [END] * (len(hypothesis.log_probabilities) - len(hypothesis.words))
