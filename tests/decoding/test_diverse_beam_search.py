"""Diverse beam search against the paper's algorithm, written with loops."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_decoder import SPOKEN, TableDecoder, grid_of, score, spoken, unconstrained

from captioner.decoding import DecodingOptions, decode
from captioner.text.vocabulary import END


def diverse_beam_search(decoder: TableDecoder, image: int, options: DecodingOptions) -> list[list[list[int]]]:
    """Algorithm 1 of Vijayakumar et al. (2018) with the Hamming diversity; length penalty 0."""
    size = options.beam_size // options.diverse_groups
    groups: list[list[list[int]]] = [[[]] for _ in range(options.diverse_groups)]
    for _ in range(options.max_words):
        used: list[int] = []
        for number, group in enumerate(groups):
            extended = []
            for sentence in group:
                if END in sentence:
                    extended.append((sum(score(decoder, image, sentence)), sentence))
                    continue
                for word in {END, *SPOKEN} - set(options.forbidden_words):
                    total = sum(score(decoder, image, [*sentence, word]))
                    extended.append((total - options.diversity_penalty * used.count(word), [*sentence, word]))
            extended.sort(key=lambda pair: -pair[0])
            lengths = {tuple(sentence): len(sentence) for sentence in group}
            groups[number] = [sentence for _, sentence in extended[:size]]
            used += [s[-1] for s in groups[number] if tuple(s) not in lengths]
    return groups


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.sampled_from([(2, 2), (3, 3), (4, 2), (6, 2)]),
    penalty=st.sampled_from([0.3, 2.0, 1000.0]),
)
def test_groups_are_those_of_the_paper(seed: int, shape: tuple[int, int], penalty: float) -> None:
    beam, groups = shape
    options = unconstrained(beam, beam, max_words=4, length_penalty=0, diverse_groups=groups, diversity_penalty=penalty)
    decoder = TableDecoder(seed, images=2)
    for image, hypotheses in enumerate(decode(decoder, grid_of(2), options)):
        expected = {tuple(s) for group in diverse_beam_search(decoder, image, options) for s in group}
        assert {tuple(spoken(h)) for h in hypotheses} == expected
        for hypothesis in hypotheses:
            assert hypothesis.log_probabilities == pytest.approx(score(decoder, image, spoken(hypothesis)), abs=3e-6)
        [alone] = decode(decoder, grid_of(2)[image : image + 1], options)
        assert [h.log_probabilities for h in alone] == [h.log_probabilities for h in hypotheses]


@pytest.mark.parametrize(("seed", "forbidden"), [(11, (4, 6)), (13, (5, 6)), (23, (4, 6)), (37, (5, 6))])
def test_what_fills_up_a_group_takes_no_sentences_place(seed: int, forbidden: tuple[int, ...]) -> None:
    decoder = TableDecoder(seed, images=1)
    # With one word to say, a group of six has more room than there are sentences.
    options = unconstrained(
        12, 12, max_words=6, length_penalty=0, forbidden_words=forbidden, diverse_groups=2, diversity_penalty=0.5
    )
    [hypotheses] = decode(decoder, grid_of(1), options)
    expected = {tuple(s) for group in diverse_beam_search(decoder, 0, options) for s in group}
    assert {tuple(spoken(h)) for h in hypotheses} == expected


def test_each_groups_best_comes_before_its_others() -> None:
    for seed in range(20):
        options = unconstrained(6, 3, max_words=4, length_penalty=0, diverse_groups=3, diversity_penalty=1.0)
        decoder = TableDecoder(seed, images=1)
        groups = [
            sorted(group, key=lambda sentence: -sum(score(decoder, 0, sentence)))
            for group in diverse_beam_search(decoder, 0, options)
        ]
        distinct = dict.fromkeys(tuple(group[depth]) for depth in range(2) for group in groups)
        [hypotheses] = decode(decoder, grid_of(1), options)
        assert {tuple(spoken(h)) for h in hypotheses} == set(list(distinct)[:3])


def test_each_group_has_its_caption_among_those_returned() -> None:
    for seed in range(10):
        options = unconstrained(3, 3, max_words=5, length_penalty=0, diverse_groups=3, diversity_penalty=100.0)
        [hypotheses] = decode(TableDecoder(seed, images=1), grid_of(1), options)
        first_words = [spoken(h)[0] for h in hypotheses]
        assert len(set(first_words)) == 3  # under so great a penalty no group begins as another
        scores = [h.log_probability for h in hypotheses]
        assert scores == sorted(scores, reverse=True)
