"""The search without torch writes what the search with torch writes, for the same probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from table_decoder import SPOKEN, NeverEnding, TableDecoder, grid_of

from captioner.decoding import DecodingOptions, decode, score_captions
from captioner.errors import CaptionerError
from captioner.runtime import search
from captioner.runtime.arrays import greatest
from captioner.runtime.graphs import State, Step
from captioner.runtime.hypotheses import score
from captioner.runtime.search import filter_logits
from captioner.text.vocabulary import END, PAD, START

IMAGES = 5
A, B, C = SPOKEN
CASES: list[dict[str, Any]] = [
    {},
    {"beam_size": 1},
    {"beam_size": 17, "num_captions": 17},
    {"num_captions": 5},
    {"num_captions": 3, "length_penalty": 0.0},
    {"length_penalty": 2.5, "beam_size": 3},
    {"length_normalization": "gnmt", "num_captions": 2},
    {"min_words": 4, "max_words": 6},
    {"no_repeat_ngram": 0},
    {"no_repeat_ngram": 1, "num_captions": 2},
    {"no_repeat_ngram": 2, "min_words": 5},
    {"forbidden_words": [A, B]},
    {"bad_endings": [A, C], "max_words": 5, "num_captions": 2},
    {"required_words": [B]},
    {"required_words": [A, C], "num_captions": 3},
    {"required_words": [A, B, C], "beam_size": 2, "max_words": 4},
    {"required_words": [A, B], "bad_endings": [A, B], "no_repeat_ngram": 2},
    {"beam_size": 6, "diverse_groups": 3, "num_captions": 6},
    {"beam_size": 6, "diverse_groups": 6, "diversity_penalty": 3.0, "num_captions": 4},
    {"beam_size": 4, "diverse_groups": 2, "forbidden_words": [B], "max_words": 3, "num_captions": 4},
    {"prompt": [B, A, B], "num_captions": 3, "min_words": 5},
    {"prompt": [A, C], "required_words": [A, B], "no_repeat_ngram": 2, "length_normalization": "gnmt"},
    {"prompt": [C], "beam_size": 6, "diverse_groups": 3, "num_captions": 6},
    {"prompt": [C, B], "sample": True, "top_k": 1, "num_captions": 2},
]


class TableGraph:
    """`TableDecoder` as an exported captioner: the same numbers for the same words."""

    recurrent = ("past",)

    def __init__(self, decoder: TableDecoder) -> None:
        self.decoder = decoder

    def step(self, words: np.ndarray, state: State) -> Step:
        images, count = words.shape
        image = np.repeat(state["image"], count, 1).reshape(-1, 1, 1)
        past = torch.from_numpy(state["past"].reshape(-1, 1, 1))
        before = self.decoder.start(grid_of(1))._replace(recurrent=(past, torch.from_numpy(image)))
        step = self.decoder.step(torch.from_numpy(words.reshape(-1)), before, grid_of(1))
        assert step.attention is not None
        log_probabilities = step.logits.log_softmax(-1).numpy().reshape(images, count, -1)
        return Step(
            log_probabilities,
            step.attention.numpy().reshape(images, count, -1),
            {"past": step.state.recurrent[0].numpy().reshape(images, count)},
        )


def begun(images: int) -> dict[str, np.ndarray]:
    return {"past": np.zeros(images, np.float32), "image": np.arange(images, dtype=np.float32)[:, None]}


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_the_same_captions_come_out(case: dict[str, Any], seed: int) -> None:
    decoder, options = TableDecoder(seed, IMAGES), DecodingOptions(**{"max_words": 8, **case})
    expected = decode(decoder, grid_of(IMAGES), options)
    written = search.decode(TableGraph(decoder), begun(IMAGES), options)
    for ours, theirs in zip(written, expected, strict=True):
        assert [each.words for each in ours] == [each.words for each in theirs]
        for one, other in zip(ours, theirs, strict=True):
            assert one.log_probabilities == pytest.approx(other.log_probabilities, abs=1e-6)
            assert one.given == other.given == len(options.prompt)
            assert one.attention is not None
            assert other.attention is not None
            np.testing.assert_array_equal(one.attention, other.attention.numpy())


def test_images_beside_it_do_not_change_a_caption() -> None:
    decoder, options = TableDecoder(3, 40), DecodingOptions(max_words=9)
    together = search.decode(TableGraph(decoder), begun(40), options)
    for image in range(0, 40, 13):
        alone = search.decode(
            TableGraph(decoder), {name: part[image : image + 1] for name, part in begun(40).items()}, options
        )
        assert [each.words for each in alone[0]] == [each.words for each in together[image]]


def test_what_cannot_be_written_is_told_in_the_same_words() -> None:
    decoder = NeverEnding(1, 1)
    options = DecodingOptions(forbidden_words=tuple(SPOKEN), max_words=3)
    with pytest.raises(CaptionerError) as expected:
        decode(decoder, grid_of(1), options)
    with pytest.raises(CaptionerError) as found:
        search.decode(TableGraph(decoder), begun(1), options)
    assert str(found.value) == str(expected.value)


def test_given_captions_are_read_alike() -> None:
    decoder = TableDecoder(5, 1)
    captions = [[START, A, B, END], [START, END], [START, C, C, C, A]]
    padded = torch.tensor([[caption + [PAD] * (5 - len(caption)) for caption in captions]])
    [expected] = score_captions(decoder, grid_of(1), padded)
    for ours, theirs in zip(score(TableGraph(decoder), begun(1), captions), expected, strict=True):
        assert ours.words == theirs.words
        assert ours.log_probabilities == pytest.approx(theirs.log_probabilities, abs=1e-6)


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (2, 1.0), (0, 0.6), (3, 0.5), (0, 1e-9)])
def test_what_may_be_drawn_is_restricted_alike(top_k: int, top_p: float) -> None:
    from captioner.decoding.sampling import filter_logits as restrict_tensor

    logits = np.random.default_rng(0).normal(size=(3, 2, 9)).astype(np.float32)
    expected = restrict_tensor(torch.from_numpy(logits), top_k, top_p).numpy()
    np.testing.assert_array_equal(filter_logits(logits, top_k, top_p), expected)


def test_draws_follow_the_distribution_and_the_seed() -> None:
    decoder = TableDecoder(2, 1, sharpness=1.0)
    options = DecodingOptions(sample=True, num_captions=4000, max_words=1)
    [drawn] = search.decode(TableGraph(decoder), begun(1), options)
    before = {"past": np.zeros((1, 1), np.float32), "image": np.zeros((1, 1), np.float32)}
    shares = TableGraph(decoder).step(np.array([[START]]), before).log_probabilities[0, 0]
    may_come = np.exp(shares[[END, *SPOKEN]])
    counts = [sum(each.words == ([word] if word != END else []) for each in drawn) for word in (END, *SPOKEN)]
    np.testing.assert_allclose(np.array(counts) / 4000, may_come / may_come.sum(), atol=0.03)
    [again] = search.decode(TableGraph(decoder), begun(1), options)
    assert [each.words for each in again] == [each.words for each in drawn]


@pytest.mark.parametrize("count", [1, 3, 16, 17, 40])
def test_the_greatest_come_first_and_of_equal_ones_the_earlier(count: int) -> None:
    values = np.random.default_rng(1).integers(0, 6, (4, 3, 40)).astype(np.float32)
    values[0, 0, 2:] = -np.inf
    found, indices = greatest(values, count)
    expected = [[sorted(range(40), key=lambda place: -row[place])[:count] for row in rows] for rows in values.tolist()]
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(found, np.take_along_axis(values, indices, -1))
