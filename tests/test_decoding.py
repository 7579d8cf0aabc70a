"""Beam search against brute force, on a decoder whose scores are known."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captioner.decoder import State, Step
from captioner.decoding import DecodingOptions, Hypothesis, decode
from captioner.errors import CaptionerError
from captioner.vocabulary import END, PAD, START, UNKNOWN

WORDS = 7  # the four special ones and three to speak of
SPOKEN = range(4, WORDS)


class TableDecoder:
    """Next-word logits looked up by image and by a hash of the words so far: nothing in common but the interface."""

    def __init__(self, seed: int, images: int, sharpness: float = 2.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.table = sharpness * torch.randn(images, 1009, WORDS, generator=generator)

    def start(self, grid: Tensor) -> State:
        image = grid[:, 0, 0].reshape(-1, 1, 1)
        return State(torch.zeros_like(image), image, None)

    def step(self, words: Tensor, state: State, grid: Tensor) -> Step:
        past = (state.hidden[:, 0, 0] * 31 + words + 1) % 1009
        images = state.cell[:, 0, 0].long()
        attention = torch.nn.functional.one_hot(past.long() % 5, 5).float()
        return Step(self.table[images, past.long()], State(past.reshape(-1, 1, 1), state.cell, None), attention)


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


def spoken(hypothesis: Hypothesis) -> list[int]:
    """The words with END where there was one."""
    return hypothesis.words + [END] * (len(hypothesis.log_probabilities) - len(hypothesis.words))


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_beam_as_wide_as_the_space_equals_brute_force(seed: int, penalty: float) -> None:
    decoder = TableDecoder(seed, images=2)
    options = DecodingOptions(beam_size=130, num_captions=10, max_words=4, length_penalty=penalty)
    for image, hypotheses in enumerate(decode(decoder, grid_of(2), options)):
        scored = [(s, score(decoder, image, s)) for s in all_sentences(4)]
        scored.sort(key=lambda pair: -sum(pair[1]) / len(pair[0]) ** penalty)
        assert [spoken(h) for h in hypotheses] == [s for s, _ in scored[:10]]
        for hypothesis, (_, expected) in zip(hypotheses, scored, strict=False):
            assert hypothesis.log_probabilities == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_of_one_is_greedy(seed: int) -> None:
    decoder = TableDecoder(seed, images=1)
    grid = grid_of(1)
    state, words = decoder.start(grid), [START]
    while words[-1] != END and len(words) <= 8:
        logits, state, _ = decoder.step(torch.tensor(words[-1:]), state, grid)
        allowed = logits[0].clone()
        allowed[[PAD, START, UNKNOWN]] = -math.inf
        words.append(int(allowed.argmax()))
    [[hypothesis]] = decode(decoder, grid, DecodingOptions(beam_size=1, max_words=8))
    assert spoken(hypothesis) == words[1:]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    images=st.integers(1, 5),
    beam=st.integers(1, 6),
    max_words=st.integers(1, 9),
    penalty=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
)
def test_a_batch_equals_single_calls(seed: int, images: int, beam: int, max_words: int, penalty: float) -> None:
    decoder = TableDecoder(seed, images)
    options = DecodingOptions(beam, beam, max_words, penalty)
    together = decode(decoder, grid_of(images), options)
    for image in range(images):
        [alone] = decode(decoder, grid_of(images)[image : image + 1], options)
        assert [h.words for h in together[image]] == [h.words for h in alone]
        assert [h.log_probabilities for h in together[image]] == [h.log_probabilities for h in alone]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), beam=st.integers(1, 8), penalty=st.sampled_from([0.0, 1.0]))
def test_stopping_early_never_changes_the_outcome(seed: int, beam: int, penalty: float) -> None:
    decoder = TableDecoder(seed, images=2)
    options = DecodingOptions(beam, 1, 6, penalty)
    early = decode(decoder, grid_of(2), options)
    # Asked for the whole beam, an image stays until all its hypotheses are finished.
    patient = decode(decoder, grid_of(2), DecodingOptions(beam, beam, 6, penalty))
    assert [h[0].words for h in early] == [h[0].words for h in patient]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_hypotheses_are_distinct_sorted_and_score_what_they_say(seed: int) -> None:
    decoder = TableDecoder(seed, images=1)
    [hypotheses] = decode(
        decoder, grid_of(1), DecodingOptions(beam_size=6, num_captions=6, max_words=5, length_penalty=0)
    )
    sentences = [tuple(spoken(h)) for h in hypotheses]
    assert len(set(sentences)) == len(sentences)
    scores = [h.log_probability for h in hypotheses]
    assert scores == sorted(scores, reverse=True)
    for hypothesis in hypotheses:
        assert hypothesis.log_probabilities == pytest.approx(score(decoder, 0, spoken(hypothesis)), abs=1e-5)
        assert not {PAD, START, UNKNOWN, END} & set(hypothesis.words)


def test_attention_belongs_to_the_words_of_its_own_sentence() -> None:
    decoder = TableDecoder(7, images=1)
    [hypotheses] = decode(decoder, grid_of(1), DecodingOptions(beam_size=6, num_captions=6, max_words=5))
    for hypothesis in hypotheses:
        past, expected = 0, []
        for word in [START, *hypothesis.words][: len(hypothesis.words)]:
            past = (past * 31 + word + 1) % 1009
            expected.append(past % 5)
        assert hypothesis.attention is not None
        assert hypothesis.attention.shape == (len(hypothesis.words), 5)
        assert hypothesis.attention.argmax(-1).tolist() == expected


class NeverEnding(TableDecoder):
    """A decoder that cannot say END."""

    def step(self, words: Tensor, state: State, grid: Tensor) -> Step:
        logits, state, attention = super().step(words, state, grid)
        return Step(logits.index_fill(1, torch.tensor([END]), -math.inf), state, attention)


def test_a_beam_that_never_ends_returns_the_best_open_sentence() -> None:
    decoder = NeverEnding(3, images=1)
    [[hypothesis]] = decode(decoder, grid_of(1), DecodingOptions(beam_size=81, max_words=4))
    best = max(itertools.product(SPOKEN, repeat=4), key=lambda s: sum(score(decoder, 0, list(s))))
    assert hypothesis.words == list(best)


def test_fewer_sentences_than_asked_for_are_returned_without_padding() -> None:
    [hypotheses] = decode(TableDecoder(1, images=1), grid_of(1), DecodingOptions(20, 20, max_words=1))
    assert sorted(spoken(h) for h in hypotheses) == [[END], *([word] for word in SPOKEN)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beam_size": 0}, "beam size is 0; it must be at least 1"),
        ({"max_words": 0}, "max words is 0; it must be at least 1"),
        ({"beam_size": 2, "num_captions": 3}, "3 captions cannot come from a beam of 2; widen the beam"),
        ({"length_penalty": -1.0}, "length penalty is -1.0; it must be a number of at least 0"),
        ({"length_penalty": math.nan}, "length penalty is nan; it must be a number of at least 0"),
    ],
)
def test_senseless_options_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(CaptionerError) as caught:
        DecodingOptions(**values)  # type: ignore[arg-type]
    assert str(caught.value) == message
