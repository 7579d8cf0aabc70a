"""Drawn captions follow the model's distribution and depend on nothing but picture, options and seed."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from table_decoder import SPOKEN, WORDS, TableDecoder, all_sentences, grid_of, score, spoken, unconstrained

from captioner.decoding import decode
from captioner.decoding.sampling import filter_logits


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    images=st.integers(1, 5),
    count=st.integers(1, 4),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    top_k=st.integers(0, WORDS),
    top_p=st.sampled_from([0.3, 0.9, 1.0]),
)
def test_a_batch_equals_single_calls(
    seed: int, images: int, count: int, temperature: float, top_k: int, top_p: float
) -> None:
    decoder = TableDecoder(seed, images)
    options = unconstrained(
        num_captions=count, max_words=7, sample=True, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )
    together = decode(decoder, grid_of(images), options)
    for image in range(images):
        [alone] = decode(decoder, grid_of(images)[image : image + 1], options)
        assert [(h.words, h.log_probabilities) for h in together[image]] == [
            (h.words, h.log_probabilities) for h in alone
        ]
        for hypothesis in alone:
            assert hypothesis.log_probabilities == pytest.approx(score(decoder, image, spoken(hypothesis)), abs=1e-5)


def test_sentences_come_as_often_as_they_are_likely() -> None:
    decoder, draws = TableDecoder(3, images=1, sharpness=1.0), 20_000
    [hypotheses] = decode(decoder, grid_of(1), unconstrained(num_captions=draws, max_words=2, sample=True))
    counts = Counter(tuple(spoken(h)) for h in hypotheses)
    # The model would also say words that are never written: what is drawn is its distribution over the others.
    shares = {}
    for sentence in all_sentences(2):
        share = 1.0
        past: list[int] = []
        for word in sentence:
            others = [math.exp(score(decoder, 0, [*past, other])[-1]) for other in (2, *SPOKEN)]
            share *= math.exp(score(decoder, 0, [*past, word])[-1]) / sum(others)
            past.append(word)
        shares[tuple(sentence)] = share
    assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
    for ids, share in shares.items():
        assert counts[ids] / draws == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / draws))


def test_the_best_come_first() -> None:
    options = unconstrained(num_captions=9, max_words=6, sample=True, length_penalty=0)
    [hypotheses] = decode(TableDecoder(1, images=1), grid_of(1), options)
    scores = [h.log_probability for h in hypotheses]
    assert scores == sorted(scores, reverse=True)


def test_seeds_differ() -> None:
    decoder = TableDecoder(1, images=1)
    drawn = {
        tuple(decode(decoder, grid_of(1), unconstrained(max_words=6, sample=True, seed=seed))[0][0].words)
        for seed in range(20)
    }
    assert len(drawn) > 5


@pytest.mark.parametrize("limit", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}], ids=str)
def test_without_choice_it_is_greedy(limit: dict[str, float]) -> None:
    decoder, grid = TableDecoder(2, images=3), grid_of(3)
    greedy = decode(decoder, grid, unconstrained(beam_size=1, max_words=6))
    drawn = decode(decoder, grid, unconstrained(max_words=6, sample=True, **limit))  # type: ignore[arg-type]
    assert [h[0].words for h in drawn] == [h[0].words for h in greedy]


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"), [(0, 1.0, 4), (3, 1.0, 3), (9, 1.0, 4), (0, 0.5, 1), (0, 0.51, 2), (2, 0.9, 2)]
)
def test_the_unlikely_are_left_out(top_k: int, top_p: float, kept: int) -> None:
    logits = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()
    for order in itertools.permutations(range(4)):
        shuffled = filter_logits(logits[list(order)], top_k, top_p)
        assert sorted(shuffled.isfinite().nonzero().flatten().tolist()) == sorted(order.index(i) for i in range(kept))


@pytest.mark.parametrize(("top_k", "top_p", "kept"), [(2, 1.0, 2), (0, 0.5, 2), (3, 0.5, 2)])
def test_of_equals_no_more_than_asked_for_stay(top_k: int, top_p: float, kept: int) -> None:
    assert int(filter_logits(torch.zeros(1, 4), top_k, top_p).isfinite().sum()) == kept
