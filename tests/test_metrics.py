"""Scores against the official ones, nltk and brute force."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import nltk.translate.bleu_score
import pytest

import captioner
from captioner.errors import CaptionerError
from captioner.metrics.bleu import corpus_bleu
from captioner.metrics.cider import corpus_cider
from captioner.metrics.rouge import corpus_rouge_l, longest_common_subsequence
from captioner.metrics.tokenizer import tokenize

OFFICIAL = Path(__file__).parents[2] / "shared" / "metrics" / "fakecap234.json"


@pytest.fixture(scope="module")
def official() -> dict[str, Any]:
    if not OFFICIAL.exists():
        pytest.skip(f"{OFFICIAL} with the official scores is not here")
    content: dict[str, Any] = json.loads(OFFICIAL.read_text())
    return content


@pytest.mark.shared_data
def test_scores_of_official_tokens_are_the_official_scores(official: dict[str, Any]) -> None:
    images = list(official["candidate_tokens"])
    hypotheses = [official["candidate_tokens"][image][0].split() for image in images]
    references = [[line.split() for line in official["reference_tokens"][image]] for image in images]
    expected = official["corpus"]
    for order, value in enumerate(corpus_bleu(hypotheses, references), start=1):
        assert value == pytest.approx(expected[f"Bleu_{order}"], abs=1e-10)
    assert corpus_rouge_l(hypotheses, references) == pytest.approx(expected["ROUGE_L"], abs=1e-10)
    assert corpus_cider(hypotheses, references) == pytest.approx(expected["CIDEr"], abs=1e-10)


@pytest.mark.shared_data
def test_nearly_all_tokens_are_the_official_ones(official: dict[str, Any]) -> None:
    pairs = [
        (raw, tokens)
        for kind in ("reference", "candidate")
        for image, group in official[f"{kind}_tokens"].items()
        for raw, tokens in zip(
            [official[f"{kind}s"][image]] if kind == "candidate" else official["references"][image], group, strict=True
        )
    ]
    equal = sum(" ".join(tokenize([raw])[0]) == tokens for raw, tokens in pairs)
    assert equal / len(pairs) > 0.99


@pytest.fixture(scope="module")
def corpus() -> tuple[list[list[str]], list[list[list[str]]]]:
    """Two hundred images with captions from a small language, so that n-grams meet."""
    chance = random.Random(1)

    def sentence() -> list[str]:
        words = ["a", "the", "dog", "cat", "runs", "sits", "on", "grass", "road", "red"]
        return [chance.choice(words) for _ in range(chance.randint(4, 14))]

    return [sentence() for _ in range(200)], [[sentence() for _ in range(chance.randint(1, 6))] for _ in range(200)]


def test_bleu_agrees_with_nltk(corpus: tuple[list[list[str]], list[list[list[str]]]]) -> None:
    hypotheses, references = corpus
    for order, value in enumerate(corpus_bleu(hypotheses, references), start=1):
        weights = [1 / order] * order
        expected = nltk.translate.bleu_score.corpus_bleu(references, hypotheses, weights)
        assert value == pytest.approx(expected, abs=1e-10)


def test_the_longest_common_subsequence_agrees_with_brute_force() -> None:
    chance = random.Random(2)
    for _ in range(100):
        first, second = ([chance.choice("abc") for _ in range(chance.randint(0, 7))] for _ in range(2))
        common = (
            n
            for n in range(len(first), -1, -1)
            for chosen in itertools.combinations(first, n)
            if chosen in set(itertools.combinations(second, n))
        )
        assert longest_common_subsequence(first, second) == next(common)


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
        ({1: "a"}, {1: ["a"], 2: ["b"]}, "image 2 has no caption"),
        ({1: "a"}, {1: []}, "image 1 has no reference"),
    ],
)
def test_what_cannot_be_scored_is_refused(candidates: Any, references: Any, message: str) -> None:
    with pytest.raises(CaptionerError, match=message):
        captioner.score(candidates, references)
