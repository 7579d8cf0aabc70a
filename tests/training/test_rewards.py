"""What takes off from the reward, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.data.records import Record
from captioner.metrics.cider import CiderReward
from captioner.text.vocabulary import END, SPECIAL_WORDS
from captioner.training.objectives.rewards import PenalizedReward

WORDS = (*SPECIAL_WORDS, *["a", "an", "dog", "cat", "runs", "on", "orange", "grass", "and", "bus"])
RECORDS = [
    Record(Path("1.jpg"), ("A dog runs.", "dog on grass"), "train", 1, (("bus", 0.6), ("cat", 0.2))),
    Record(Path("2.jpg"), ("A cat.",), "train", 2),
]


def ids(caption: str) -> list[int]:
    return [*map(WORDS.index, caption.split()), END]


def reward(hallucination: float = 0.0, repetition: float = 0.0) -> PenalizedReward:
    cider = CiderReward([[ids("a dog runs"), ids("dog on grass")], [ids("a cat")]])
    return PenalizedReward(cider, RECORDS, WORDS, hallucination, repetition)


@pytest.mark.parametrize(
    ("image", "caption", "count"),
    [
        (0, "a dog runs", 0),
        (0, "a cat runs", 1),  # the detector is not sure enough of it
        (0, "a bus and a dog", 0),  # the detector is
        (0, "a cat and a cat", 1),
        (1, "a cat and a dog on a bus", 2),
    ],
)
def test_things_that_are_not_there_take_off(image: int, caption: str, count: int) -> None:
    without = reward()(image, [ids(caption)])[0]
    assert reward(hallucination=0.25)(image, [ids(caption)])[0] == pytest.approx(without - 0.25 * count)


@pytest.mark.parametrize(
    ("caption", "count"),
    [
        ("a dog runs on a grass", 0),
        ("a dog and a dog", 2),  # "dog", and "a dog"
        ("dog dog dog", 3),  # twice "dog", once "dog dog"
        ("a orange", 1),
        ("an dog", 1),
    ],
)
def test_repetition_and_wrong_articles_take_off(caption: str, count: int) -> None:
    without = reward()(0, [ids(caption)])[0]
    assert reward(repetition=0.25)(0, [ids(caption)])[0] == pytest.approx(without - 0.25 * count)


def test_the_rest_is_cider() -> None:
    cider = CiderReward([[ids("a dog runs"), ids("dog on grass")], [ids("a cat")]])
    captions = [ids("a dog runs"), ids("a cat on grass")]
    assert reward(0.0, 0.0)(0, captions) == cider(0, captions)
