"""Scores against the official ones, nltk and brute force."""

from __future__ import annotations

import contextlib
import io
import itertools
import random
from typing import Any

import nltk.translate.bleu_score
import numpy as np
import pytest

import captioner
from captioner.errors import CaptionerError
from captioner.metrics import evaluate
from captioner.metrics.bleu import count_bleu
from captioner.metrics.bootstrap import compare, intervals
from captioner.metrics.cider import cider
from captioner.metrics.diversity import describe
from captioner.metrics.ngrams import Corpus, index_corpus
from captioner.metrics.rouge import BETA, rouge_l

NAMES = {
    "BLEU-1": "Bleu_1",
    "BLEU-2": "Bleu_2",
    "BLEU-3": "Bleu_3",
    "BLEU-4": "Bleu_4",
    "ROUGE-L": "ROUGE_L",
    "CIDEr": "CIDEr",
}
EXACT = 1e-10

Captions = list[list[str]]


@pytest.mark.shared_data
def test_scores_are_the_official_ones(official: dict[str, Any]) -> None:
    evaluation = evaluate(official["candidates"], official["references"])
    corpus = evaluation.corpus()
    for name, official_name in NAMES.items():
        assert corpus[name] == pytest.approx(official["corpus"][official_name], abs=EXACT)
    for image, scores in evaluation.per_image().items():
        for name, official_name in NAMES.items():
            assert scores[name] == pytest.approx(official["images"][image][official_name], abs=EXACT)


def make_corpus(seed: int) -> tuple[Captions, list[Captions]]:
    """Captions from a small language, so that n-grams meet; some are empty, some longer than 64 words."""
    chance = random.Random(seed)
    words = [f"w{number}" for number in range(chance.choice([2, 8, 40]))]
    lengths = [0, 1, 2, 3, 5, 8, 8, 9, 10, 11, 13, 63, 64, 65, 90]

    def sentence() -> list[str]:
        return [chance.choice(words) for _ in range(chance.choice(lengths))]

    images = chance.choice([1, 2, 5, 30])
    hypotheses = [sentence() for _ in range(images)]
    groups = [[sentence() for _ in range(chance.randint(1, 7))] + [["w0"]] for _ in range(images)]
    return hypotheses, groups


def scored(hypotheses: Captions, references: list[Captions]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Corpus scores and scores of each image, as `evaluate` puts them together."""
    corpus = index_corpus(hypotheses, references)
    filled = index_corpus([h or [""] for h in hypotheses], [[r or [""] for r in group] for group in references])
    counts = count_bleu(corpus)
    images = dict(zip(NAMES, (*counts.scores().T, rouge_l(filled), cider(corpus)), strict=True))
    whole = counts.weighted(np.ones((1, len(hypotheses)))).scores()[0]
    means = (images["ROUGE-L"].mean(), images["CIDEr"].mean())
    return dict(zip(NAMES, (*whole, *means), strict=True)), images


@pytest.mark.parametrize("seed", range(40))
def test_scores_of_any_tokens_are_those_of_the_official_code(seed: int) -> None:
    pytest.importorskip("pycocoevalcap", reason="the extra captioner[coco] is not installed")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    hypotheses, references = make_corpus(seed)
    results = {image: [" ".join(words)] for image, words in enumerate(hypotheses)}
    wanted = {image: [" ".join(words) for words in group] for image, group in enumerate(references)}
    with contextlib.redirect_stdout(io.StringIO()):
        bleu, bleu_images = Bleu(4).compute_score(wanted, results)
        rouge, rouge_images = Rouge().compute_score(wanted, results)
        consensus, consensus_images = Cider().compute_score(wanted, results)
    corpus, images = scored(hypotheses, references)
    for name, value, each in zip(
        NAMES, (*bleu, rouge, consensus), (*bleu_images, rouge_images, consensus_images), strict=True
    ):
        assert corpus[name] == pytest.approx(value, abs=EXACT)
        assert images[name] == pytest.approx(np.array(each), abs=EXACT)


def test_a_token_that_spans_a_space_is_two_words_to_bleu_and_one_to_rouge() -> None:
    scores = captioner.score({1: "2 1/2 dogs", 2: "a cat"}, {1: ["1/2 dogs"], 2: ["a cat"]})
    assert scores["BLEU-1"] == pytest.approx(4 / 5, abs=1e-6)
    # Of image 1, "dogs" alone is in both: one of two tokens.
    assert scores["ROUGE-L"] == pytest.approx((0.5 + 1) / 2)


@pytest.mark.parametrize("seed", range(5))
def test_bleu_agrees_with_nltk(seed: int) -> None:
    chance = random.Random(seed)
    words = ["a", "the", "dog", "cat", "runs", "sits", "on", "grass", "road", "red"]

    def sentence() -> list[str]:
        return [chance.choice(words) for _ in range(chance.randint(4, 14))]

    hypotheses = [sentence() for _ in range(200)]
    references = [[sentence() for _ in range(chance.randint(1, 6))] for _ in range(200)]
    corpus, _ = scored(hypotheses, references)
    for order in range(1, 5):
        expected = nltk.translate.bleu_score.corpus_bleu(references, hypotheses, [1 / order] * order)
        assert corpus[f"BLEU-{order}"] == pytest.approx(expected, abs=EXACT)


def test_rouge_finds_the_longest_common_subsequence_by_brute_force() -> None:
    chance = random.Random(2)
    pairs = [tuple([chance.choice("abc") for _ in range(chance.randint(1, 7))] for _ in range(2)) for _ in range(200)]
    common = np.array([longest_common_subsequence(first, second) for first, second in pairs])
    precision, recall = common / [len(first) for first, _ in pairs], common / [len(second) for _, second in pairs]
    weight = np.where(common > 0, recall + BETA**2 * precision, 1)
    expected = (1 + BETA**2) * precision * recall / weight
    corpus: Corpus = index_corpus([first for first, _ in pairs], [[second] for _, second in pairs])
    assert rouge_l(corpus) == pytest.approx(expected)


def longest_common_subsequence(first: list[str], second: list[str]) -> int:
    return next(
        size
        for size in range(len(first), -1, -1)
        for chosen in itertools.combinations(first, size)
        if chosen in set(itertools.combinations(second, size))
    )


def test_a_perfect_corpus_scores_the_most() -> None:
    captions = {1: "A red circle left of a blue square.", 2: "two dogs run across the green field"}
    scores = captioner.score(captions, {image: [text] for image, text in captions.items()})
    assert scores == pytest.approx({**{f"BLEU-{n}": 1.0 for n in range(1, 5)}, "ROUGE-L": 1.0, "CIDEr": 10.0})


def test_one_image_alone_has_no_cider() -> None:
    assert captioner.score({1: "a dog runs on grass"}, {1: ["a dog runs on grass"]})["CIDEr"] == 0


def test_an_empty_caption_scores_nothing() -> None:
    scores = captioner.score({1: "", 2: ""}, {1: ["a dog"], 2: ["a cat"]})
    assert max(scores.values()) < 1e-6


def test_unknown_earns_nothing() -> None:
    assert captioner.score({1: "<unk>", 2: "a"}, {1: ["a dog"], 2: ["a"]})["BLEU-1"] < 1


@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [
        ({}, {}, "there is no caption to score"),
        ({1: "a"}, {}, "image 1 has no reference"),
        ({}, {1: ["a"]}, "there is no caption to score"),
        ({1: "a"}, {1: ["a"], 2: ["b"], 3: ["c"]}, r"image 2 \(and 1 more\) has no caption"),
        ({1: "a"}, {1: []}, "image 1 has no reference"),
        ({1: "a"}, {1: "a"}, "image 1: its references are one text"),
        ({1: 5}, {1: ["a"]}, "image 1: a caption is not text"),
        ({1: "a"}, {1: ["a", None]}, "image 1: a caption is not text"),
    ],
)
def test_what_cannot_be_scored_is_refused(candidates: Any, references: Any, message: str) -> None:
    with pytest.raises(CaptionerError, match=message):
        captioner.score(candidates, references)


@pytest.fixture(scope="module")
def two() -> tuple[Any, Any]:
    """Captions of 300 images, and the same with a word wrong in every second one."""
    chance = random.Random(3)
    words = ["a", "the", "dog", "cat", "runs", "sits", "on", "grass", "road", "red"]
    references = {i: [" ".join(chance.choices(words, k=9)) for _ in range(3)] for i in range(300)}
    good = {i: group[0] if chance.random() < 0.7 else group[0][2:] for i, group in references.items()}
    bad = {i: text.rsplit(" ", 1)[0] + " zebra" if i % 2 else text for i, text in good.items()}
    return evaluate(good, references), evaluate(bad, references)


def test_an_interval_is_as_wide_as_the_standard_error_says(two: tuple[Any, Any]) -> None:
    found = intervals(two[0], samples=4000)
    corpus = two[0].corpus()
    for name in ("ROUGE-L", "CIDEr"):
        values = two[0].means[name]
        half = 1.96 * values.std() / np.sqrt(len(values))
        assert found[name].high - found[name].low == pytest.approx(2 * half, rel=0.06)
        assert (found[name].high + found[name].low) / 2 == pytest.approx(corpus[name], abs=0.06 * half)
    assert all(low < corpus[name] < high for name, (low, high) in found.items())
    assert intervals(two[0], samples=50) == intervals(two[0], samples=50)


def test_a_true_difference_is_found_and_none_is_not(two: tuple[Any, Any]) -> None:
    good, bad = two
    for name, (difference, interval, p_value) in compare(good, bad).items():
        assert difference == pytest.approx(bad.corpus()[name] - good.corpus()[name])
        assert interval.low < difference < interval.high < 0
        assert p_value < 0.01
    for difference, interval, p_value in compare(good, good).values():
        assert (difference, interval, p_value) == (0, (0, 0), 1)


def test_a_sample_without_difference_speaks_against_one_and_both_sides_count() -> None:
    references = {1: ["the dog runs"], 2: ["a red cat sits"]}
    first = evaluate({1: "the dog", 2: "a red cat sits"}, references)
    second = evaluate({1: "the dog runs", 2: "a red cat sits"}, references)
    # Drawn twice, the second image has no difference: in a quarter of the samples.
    assert compare(first, second, samples=4000)["ROUGE-L"].p_value == pytest.approx(2 / 4, abs=0.05)


def test_only_the_same_images_compare(two: tuple[Any, Any]) -> None:
    other = evaluate({1: "a", 2: "b"}, {1: ["a"], 2: ["b"]})
    with pytest.raises(CaptionerError, match="only captions of the same images"):
        compare(two[0], other)


def test_variety_and_wholeness_by_hand() -> None:
    captions = [["a", "dog", "on", "a"], ["a", "dog", "and", "a", "dog"], ["a", "cat"], ["a", "cat"], []]
    found = describe(captions, training={"a cat"})
    assert found == {
        "vocabulary": 5,
        "distinct-1": 5 / 13,
        "distinct-2": 6 / 9,
        "length": 13 / 5,
        "unique": 4 / 5,
        "novel": 3 / 5,
        "cut off": 2 / 5,
        "repetitive": 1 / 5,
    }
    assert "novel" not in describe(captions)
    assert describe([])["length"] == 0


def test_captions_that_belong_to_no_images_are_told() -> None:
    for captions, references, what in ((["a"], ["a"], "captions are a list"), ({1: "a"}, "a", "references are a str")):
        with pytest.raises(CaptionerError, match=f"{what}; give a dictionary from images to them"):
            captioner.score(captions, references)  # type: ignore[arg-type]
