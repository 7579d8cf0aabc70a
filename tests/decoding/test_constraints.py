"""What options rule out never appears, and beam search under them equals brute force over what is left."""

from __future__ import annotations

from operator import eq
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_decoder import SPOKEN, TableDecoder, all_sentences, banked_beam, grid_of, score, spoken, unconstrained

from captioner.decoding import DecodingOptions, decode
from captioner.errors import CaptionerError
from captioner.text.vocabulary import END


def repeats(words: list[int], size: int) -> bool:
    runs = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    return size > 0 and (len(set(runs)) < len(runs) or any(map(eq, words, words[1:])))


def allowed(sentence: list[int], options: DecodingOptions) -> bool:
    words = [word for word in sentence if word != END]
    return (
        len(words) >= options.min_words
        and not repeats(words, options.no_repeat_ngram)
        and not set(words) & set(options.forbidden_words)
        and set(options.required_words) <= set(words)
        and not (words and words[-1] in options.bad_endings)
    )


A, B, C = SPOKEN
CASES: list[dict[str, Any]] = [
    {"min_words": 2},
    {"min_words": 4},
    {"no_repeat_ngram": 0},
    {"no_repeat_ngram": 1},
    {"no_repeat_ngram": 2},
    {"no_repeat_ngram": 3},
    {"forbidden_words": [A]},
    {"bad_endings": [A, C]},
    {"required_words": [B]},
    {"required_words": [A, C]},
    {"required_words": [A, B, C]},
    {"required_words": [A, B], "bad_endings": [A, B]},
    {"required_words": [A, B], "bad_endings": [A, B], "no_repeat_ngram": 2},
    {"required_words": [A], "bad_endings": [B], "no_repeat_ngram": 2, "min_words": 3},
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_a_beam_as_wide_as_the_space_equals_brute_force(case: dict[str, Any], seed: int) -> None:
    decoder = TableDecoder(seed, images=2)
    options = DecodingOptions(beam_size=130, num_captions=5, max_words=4, **case)
    for image, hypotheses in enumerate(decode(decoder, grid_of(2), options)):
        scored = [(s, score(decoder, image, s)) for s in all_sentences(4) if allowed(s, options)]
        scored.sort(key=lambda pair: -sum(pair[1]) / len(pair[0]) ** options.length_penalty)
        assert [spoken(h) for h in hypotheses] == [s for s, _ in scored[:5]]
        for hypothesis, (_, expected) in zip(hypotheses, scored, strict=False):
            assert hypothesis.log_probabilities == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("required", [(), (A,), (B, C), (A, B, C)], ids=len)
@pytest.mark.parametrize("beam", [1, 2, 3, 5])
def test_a_narrow_beam_keeps_what_a_plain_search_keeps(beam: int, required: tuple[int, ...]) -> None:
    options = unconstrained(beam, beam, max_words=5, required_words=required)
    for seed in range(5):
        decoder = TableDecoder(seed, images=3)
        for image, hypotheses in enumerate(decode(decoder, grid_of(3), options)):
            expected = banked_beam(decoder, image, options)
            assert [spoken(h) for h in hypotheses] == [words for words, _ in expected]
            for hypothesis, (_, log_probabilities) in zip(hypotheses, expected, strict=True):
                assert hypothesis.log_probabilities == pytest.approx(log_probabilities, abs=1e-5)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    beam=st.integers(1, 4),
    min_words=st.integers(0, 5),
    ngram=st.sampled_from([0, 2, 3]),
    required=st.sets(st.sampled_from(SPOKEN)),
    endings=st.sets(st.sampled_from(SPOKEN), max_size=1),
)
def test_what_is_ruled_out_never_appears(
    seed: int, beam: int, min_words: int, ngram: int, required: set[int], endings: set[int]
) -> None:
    options = DecodingOptions(
        beam,
        beam,
        max_words=6,
        min_words=min_words,
        no_repeat_ngram=ngram,
        required_words=tuple(required),
        bad_endings=tuple(endings),
    )
    decoder = TableDecoder(seed, images=3, words=15)  # with three words to speak of, a sentence may run into a dead end
    together = decode(decoder, grid_of(3), options)
    for image, hypotheses in enumerate(together):
        assert hypotheses
        for hypothesis in hypotheses:
            assert allowed(hypothesis.words, options)
            assert hypothesis.log_probabilities == pytest.approx(score(decoder, image, spoken(hypothesis)), abs=1e-5)
        [alone] = decode(decoder, grid_of(3)[image : image + 1], options)
        assert [h.words for h in alone] == [h.words for h in hypotheses]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), min_words=st.integers(0, 5), ngram=st.sampled_from([0, 2, 3]))
def test_it_does_not_appear_in_what_is_drawn_either(seed: int, min_words: int, ngram: int) -> None:
    options = DecodingOptions(
        num_captions=8,
        max_words=6,
        min_words=min_words,
        no_repeat_ngram=ngram,
        bad_endings=(A,),
        forbidden_words=(B,),
        sample=True,
        seed=seed,
    )
    for hypotheses in decode(TableDecoder(seed, images=2, words=15), grid_of(2), options):
        assert hypotheses
        assert all(allowed(hypothesis.words, options) for hypothesis in hypotheses)


def test_options_that_no_caption_meets_are_told() -> None:
    options = DecodingOptions(max_words=4, min_words=4, no_repeat_ngram=1)
    with pytest.raises(CaptionerError, match="no caption of at most 4 words meets the options; raise max words, or"):
        decode(TableDecoder(0, images=1), grid_of(1), options)


def test_text_is_not_taken_for_ids() -> None:
    with pytest.raises(CaptionerError, match=r"word 'dog' is text, .*; give it to Captioner\.caption"):
        decode(TableDecoder(0, images=1), grid_of(1), DecodingOptions(forbidden_words=("dog",)))
