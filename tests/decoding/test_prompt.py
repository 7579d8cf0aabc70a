"""Captions that begin with a prompt: what the words before are decides, and nothing else of the search changes."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from table_decoder import SPOKEN, TableDecoder, all_sentences, grid_of, real_decoder, score, spoken
from torch import Tensor

from captioner.decoding import DecodingOptions, decode, score_captions
from captioner.errors import CaptionerError
from captioner.models.decoder import Decoder, DecoderConfig, MemberDecoders, State, Step, make_decoder
from captioner.text.vocabulary import END, PAD, START

A, B, C = SPOKEN
CASES: list[dict[str, Any]] = [
    {},
    {"length_penalty": 0},
    {"length_normalization": "gnmt"},
    {"min_words": 4},
    {"no_repeat_ngram": 2},
    {"bad_endings": [A, B]},
    {"required_words": [B]},
    {"required_words": [A, C], "bad_endings": [C]},
]


class AfterPrompt:
    """A decoder that has read a prompt before its first word."""

    def __init__(self, decoder: Any, prompt: tuple[int, ...]) -> None:
        self.decoder = decoder
        self.before = [START, *prompt]

    def start(self, grid: Tensor) -> State:
        state = self.decoder.start(grid)
        for token in self.before[:-1]:
            state = self.decoder.step(torch.full((len(grid),), token), state, grid).state
        return state  # type: ignore[no-any-return]

    def step(self, tokens: Tensor, state: State, grid: Tensor) -> Step:
        return self.decoder.step(tokens.masked_fill(tokens == START, self.before[-1]), state, grid)  # type: ignore[no-any-return]


@pytest.mark.parametrize("prompt", [(A,), (B, B)], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_beam_as_wide_as_the_space_equals_brute_force(case: dict[str, Any], prompt: tuple[int, ...]) -> None:
    decoder, given = TableDecoder(len(prompt), images=2), len(prompt)
    options = DecodingOptions(beam_size=130, num_captions=5, max_words=5, prompt=prompt, **case)

    def rank(sentence: list[int], scores: list[float]) -> float:
        length: float = len(sentence) - given
        if options.length_normalization == "gnmt":
            length = (5 + length) / 6
        return float(sum(scores[given:]) / length**options.length_penalty)

    def allowed(sentence: list[int]) -> bool:
        words = [word for word in sentence if word != END]
        runs = list(itertools.pairwise(words))
        return (
            tuple(sentence[:given]) == prompt
            and len(sentence) > given
            and len(words) >= options.min_words
            and not (
                options.no_repeat_ngram
                and (len(set(runs)) < len(runs) or any(a == b for a, b in runs[max(given - 1, 0) :]))
            )
            and words[-1] not in options.bad_endings
            and set(options.required_words) <= set(words)
        )

    for image, hypotheses in enumerate(decode(decoder, grid_of(2), options)):
        scored = [(each, score(decoder, image, each)) for each in all_sentences(5) if allowed(each)]
        scored.sort(key=lambda pair: -rank(*pair))
        assert [spoken(each) for each in hypotheses] == [sentence for sentence, _ in scored[:5]]
        for hypothesis, (_, expected) in zip(hypotheses, scored, strict=False):
            assert hypothesis.given == given
            assert hypothesis.log_probabilities == pytest.approx(expected, abs=1e-5)
            assert hypothesis.log_probability == pytest.approx(sum(expected[given:]), abs=1e-5)


def decoders(kind: str) -> tuple[list[Any], list[Tensor]]:
    grid = torch.randn(4, 9, 10, generator=torch.Generator().manual_seed(1))
    if kind == "ensemble":
        return [real_decoder(1, 10), real_decoder(2, 10)], [grid, grid.flip(1)]
    torch.manual_seed(3)
    config = DecoderConfig(
        embedding_size=8,
        hidden_size=7,
        attention_size=5,
        members=2 if kind == "members" else 1,
        concepts="copy" if kind == "concepts" else "none",
        concept_words=5 if kind == "concepts" else 0,
    )
    decoder = make_decoder(config, 10, 11).eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    if isinstance(decoder, Decoder) and decoder.concepts is not None:
        decoder.concepts.word_ids.copy_(torch.tensor([PAD, 5, 7, 8, 10]))
    return [decoder], [grid]


def read_before(decoder: Any, prompt: tuple[int, ...]) -> list[AfterPrompt]:
    members = decoder.members if isinstance(decoder, MemberDecoders) else [decoder]
    return [AfterPrompt(member, prompt) for member in members]


METHODS: list[dict[str, Any]] = [
    {"beam_size": 1},
    {"beam_size": 3, "num_captions": 3},
    {"beam_size": 6, "num_captions": 6, "diverse_groups": 3},
    {"required_words": [5, 8], "num_captions": 2},
    {"sample": True, "num_captions": 3, "seed": 4, "top_p": 0.9},
]


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("kind", ["plain", "concepts", "members", "ensemble"])
def test_a_search_goes_on_as_one_that_begins_after_the_prompt(kind: str, method: dict[str, Any]) -> None:
    networks, grids = decoders(kind)
    prompt = (6, 4, 6)
    options = DecodingOptions(max_words=9, prompt=prompt, no_repeat_ngram=0, **method)
    begun = decode(networks, grids, options)
    members = [each for network in networks for each in read_before(network, prompt)]
    later = decode(members, [grids[0]] * 2 if kind == "members" else grids, replace(options, prompt="", max_words=6))
    for ours, theirs in zip(begun, later, strict=True):
        assert [each.words for each in ours] == [[*prompt, *each.words] for each in theirs]
        for one, other in zip(ours, theirs, strict=True):
            assert one.log_probability == pytest.approx(other.log_probability, abs=1e-4)
            assert one.attention is not None
            assert other.attention is not None
            torch.testing.assert_close(one.attention[3:], other.attention, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["plain", "members"])
def test_the_prompts_words_have_the_scores_and_maps_of_a_given_caption(kind: str) -> None:
    networks, grids = decoders(kind)
    for image, [hypothesis] in enumerate(decode(networks, grids, DecodingOptions(max_words=7, prompt=(9, 5)))):
        caption = torch.tensor([[[START, *spoken(hypothesis)]]])
        [[read]] = score_captions(networks, [grid[image : image + 1] for grid in grids], caption)
        assert read.words == hypothesis.words
        assert read.log_probabilities == pytest.approx(hypothesis.log_probabilities, abs=1e-5)
        assert read.attention is not None
        assert hypothesis.attention is not None
        torch.testing.assert_close(read.attention, hypothesis.attention, atol=1e-5, rtol=0)
        assert hypothesis.log_probability == pytest.approx(math.fsum(hypothesis.log_probabilities[2:]))


def test_required_words_of_the_prompt_are_not_asked_for_again() -> None:
    decoder = TableDecoder(1, images=3)
    plain = decode(decoder, grid_of(3), DecodingOptions(max_words=6, prompt=(A,)))
    required = decode(decoder, grid_of(3), DecodingOptions(max_words=6, prompt=(A,), required_words=(A,)))
    assert [[each.words for each in captions] for captions in required] == [
        [each.words for each in captions] for captions in plain
    ]


def test_a_prompt_as_text_is_not_taken_for_ids() -> None:
    with pytest.raises(CaptionerError, match=r"word 'a dog' is text, .*; give it to Captioner\.caption"):
        decode(TableDecoder(0, images=1), grid_of(1), DecodingOptions(prompt="a dog"))
