"""Beam search against brute force, on a decoder whose scores are known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from table_decoder import (
    SPOKEN,
    WORDS,
    NeverEnding,
    TableDecoder,
    all_sentences,
    banked_beam,
    grid_of,
    real_decoder,
    score,
    spoken,
    unconstrained,
)
from torch import Tensor

from captioner.decoding import decode
from captioner.decoding.hypotheses import FEW, FINEST, Hypothesis
from captioner.models.decoder import State, Step
from captioner.text.vocabulary import END, PAD, START, UNKNOWN


class CountingDecoder(TableDecoder):
    """Counts the words that it reads at each step."""

    def __init__(self, seed: int, images: int) -> None:
        super().__init__(seed, images)
        self.read: list[int] = []

    def step(self, tokens: Tensor, state: State, grid: Tensor) -> Step:
        self.read.append(len(tokens))
        return super().step(tokens, state, grid)


def written(captions: Sequence[Sequence[Hypothesis]]) -> list[list[tuple[list[int], list[float]]]]:
    return [[(each.words, each.log_probabilities) for each in image] for image in captions]


@pytest.mark.parametrize(("normalization", "penalty"), [("average", 0), ("average", 0.7), ("average", 1), ("gnmt", 1)])
@pytest.mark.parametrize("seed", range(5))
def test_a_beam_as_wide_as_the_space_equals_brute_force(
    seed: int, normalization: Literal["average", "gnmt"], penalty: float
) -> None:
    decoder = TableDecoder(seed, images=2)
    options = unconstrained(130, 10, 4, penalty, normalization)

    def normalizer(length: int) -> float:
        return float(((5 + length) / 6 if normalization == "gnmt" else length) ** penalty)

    for image, hypotheses in enumerate(decode(decoder, grid_of(2), options)):
        scored = [(s, score(decoder, image, s)) for s in all_sentences(4)]
        scored.sort(key=lambda pair: -sum(pair[1]) / normalizer(len(pair[0])))
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
    [[hypothesis]] = decode(decoder, grid, unconstrained(beam_size=1, max_words=8))
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
    options = unconstrained(beam, beam, max_words, penalty)
    together = decode(decoder, grid_of(images), options)
    for image in range(images):
        [alone] = decode(decoder, grid_of(images)[image : image + 1], options)
        assert [h.words for h in together[image]] == [h.words for h in alone]
        assert [h.log_probabilities for h in together[image]] == [h.log_probabilities for h in alone]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000), beam=st.integers(1, 8), wanted=st.integers(1, 8), penalty=st.sampled_from([0.0, 1.0])
)
def test_stopping_early_never_changes_the_outcome(seed: int, beam: int, wanted: int, penalty: float) -> None:
    decoder, wanted = TableDecoder(seed, images=2), min(wanted, beam)
    options = unconstrained(beam, wanted, 6, penalty)
    early = decode(decoder, grid_of(2), options)
    # Asked for the whole beam, an image stays until all its hypotheses are finished.
    patient = decode(decoder, grid_of(2), unconstrained(beam, beam, 6, penalty))
    assert [[h.words for h in each] for each in early] == [[h.words for h in each[:wanted]] for each in patient]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_hypotheses_are_distinct_sorted_and_score_what_they_say(seed: int) -> None:
    decoder = TableDecoder(seed, images=1)
    [hypotheses] = decode(
        decoder, grid_of(1), unconstrained(beam_size=6, num_captions=6, max_words=5, length_penalty=0)
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
    [hypotheses] = decode(decoder, grid_of(1), unconstrained(beam_size=6, num_captions=6, max_words=5))
    for hypothesis in hypotheses:
        past, expected = 0, []
        for word in [START, *hypothesis.words][: len(hypothesis.words)]:
            past = (past * 31 + word + 1) % 1009
            expected.append(past % 5)
        assert hypothesis.attention is not None
        assert hypothesis.attention.shape == (len(hypothesis.words), 5)
        assert hypothesis.attention.argmax(-1).tolist() == expected


def test_a_beam_that_never_ends_returns_the_best_open_sentence() -> None:
    decoder = NeverEnding(3, images=1)
    [[hypothesis]] = decode(decoder, grid_of(1), unconstrained(beam_size=81, max_words=4))
    best = max(itertools.product(SPOKEN, repeat=4), key=lambda s: sum(score(decoder, 0, list(s))))
    assert hypothesis.words == list(best)


@pytest.mark.parametrize("beam", [1, 2, 5])
def test_a_broken_network_ends_too(beam: int) -> None:
    decoder, grid = real_decoder(5, 10), torch.randn(3, 9, 10)
    with torch.no_grad():
        decoder.output_bias.fill_(math.nan)
    assert len(decode(decoder, grid, unconstrained(beam, max_words=8))) == 3


def test_fewer_sentences_than_asked_for_are_returned_without_padding() -> None:
    [hypotheses] = decode(TableDecoder(1, images=1), grid_of(1), unconstrained(20, 20, max_words=1))
    assert sorted(spoken(h) for h in hypotheses) == [[END], *([word] for word in SPOKEN)]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), max_words=st.integers(1, 4))
def test_a_wider_beam_finds_nothing_worse_once_it_holds_the_space(seed: int, max_words: int) -> None:
    # A narrow beam may by luck beat one a little wider; one that holds every sentence beats them all.
    decoder, grid = TableDecoder(seed, images=1), grid_of(1)
    best = [
        decode(decoder, grid, unconstrained(beam, 1, max_words, 0.0))[0][0].log_probability
        for beam in (1, 2, 5, 4**max_words)
    ]
    assert max(best) == pytest.approx(best[-1], abs=1e-5)


class EndingLate(TableDecoder):
    """Ends at once, or goes on for a long time at little cost."""

    def step(self, tokens: Tensor, state: State, grid: Tensor) -> Step:
        _, state, attention = super().step(tokens, state, grid)
        logits = torch.full((len(tokens), WORDS), -20.0)
        logits[:, END] = torch.where(tokens == START, 1.0, -10.0)
        logits[:, 4] = 0.0
        return Step(logits, state, attention)


def test_finished_sentences_stay_finished_while_others_grow() -> None:
    [hypotheses] = decode(EndingLate(0, 1), grid_of(1), unconstrained(2, 2, 6, 0.0))
    assert [spoken(h) for h in hypotheses] == [[END], [4] * 6]


METHODS: list[dict[str, Any]] = [
    {},
    {"beam_size": 1},
    {"beam_size": 4, "diverse_groups": 2},
    {"required_words": [5, 8], "no_repeat_ngram": 2},
    {"sample": True, "top_p": 0.9},
]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_real_decoder_writes_for_a_batch_what_it_writes_for_each_image(method: dict[str, Any]) -> None:
    decoder, grid = real_decoder(5, 10), 4 * torch.randn(20, 65, 10, generator=torch.Generator().manual_seed(6))
    options = unconstrained(max_words=8, **method)
    with torch.no_grad():
        decoder.output_bias[END] += 1
    written = decode(decoder, grid, options)
    # Images are done one after another, so that those that are not have others beside them at each step.
    assert len({len(together.words) for [together] in written}) > 3
    for image, [together] in enumerate(written):
        [[alone]] = decode(decoder, grid[image : image + 1], options)
        assert together.words == alone.words
        # Matrix products of other sizes round differently.
        assert together.log_probabilities == pytest.approx(alone.log_probabilities, abs=1e-5)
        assert together.attention is not None
        assert alone.attention is not None
        torch.testing.assert_close(together.attention, alone.attention, atol=1e-5, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch.cuda can use")
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_gpu_writes_what_the_cpu_writes(method: dict[str, Any]) -> None:
    decoder, grid = real_decoder(5, 10), torch.randn(6, 9, 10)
    options = unconstrained(max_words=8, **method)
    here, there = decode(decoder, grid, options), decode(decoder.cuda(), grid.cuda(), options)
    assert [[h.words for h in each] for each in there] == [[h.words for h in each] for each in here]


@pytest.mark.parametrize("beam", [1, 2, 6])
def test_only_sentences_that_go_on_are_read(beam: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioner.decoding.hypotheses.FEW", 12 * beam)
    decoder, plain = CountingDecoder(beam, images=12), CountingDecoder(beam, images=12)
    # With all of the beam wanted, no image is done before all of its sentences are finished.
    options = unconstrained(beam, beam, max_words=8)
    decode(decoder, grid_of(12), options)
    for image in range(12):
        banked_beam(plain, image, options)
    assert sum(decoder.read) == sum(plain.read)


def test_numbers_of_sentences_are_few_and_change_no_caption(monkeypatch: pytest.MonkeyPatch) -> None:
    options = unconstrained(6, 6, max_words=12)
    rounded, exact = CountingDecoder(3, images=60), CountingDecoder(3, images=60)
    few = decode(rounded, grid_of(60), options)
    monkeypatch.setattr("captioner.decoding.hypotheses.FEW", 360)
    assert written(few) == written(decode(exact, grid_of(60), options))
    read = rounded.read[1:]  # the first step reads one sentence of each image
    assert len(set(read)) < len(set(exact.read[1:]))
    assert all(after <= FEW or after % FINEST == 0 for after in read)
    assert all(before <= after <= 1.2 * before + FINEST for before, after in zip(exact.read[1:], read, strict=True))


def test_many_images_are_written_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, options = TableDecoder(5, images=7), unconstrained(3, 3, 5)
    together = decode(decoder, grid_of(7), options)
    monkeypatch.setattr("captioner.decoding.generate.HYPOTHESES_AT_ONCE", 6)
    assert [[h.words for h in each] for each in decode(decoder, grid_of(7), options)] == [
        [h.words for h in each] for each in together
    ]


def test_no_image_has_no_caption() -> None:
    assert decode(TableDecoder(0, images=1), grid_of(0), unconstrained()) == []
