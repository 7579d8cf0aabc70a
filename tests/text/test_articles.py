"""Indefinite articles."""

from __future__ import annotations

import pytest

from captioner.text.articles import article_of, fit_articles, wrong_articles
from captioner.text.vocabulary import SPECIAL_WORDS, Vocabulary

AN = ["apple", "elephant", "orange", "umbrella", "hour", "honest", "underwater", "uninhabited", "x-ray", "suv", "igloo"]
A = ["dog", "house", "european", "unicycle", "uniform", "one", "one-way", "ukulele", "utensil", "user", "yellow"]


@pytest.mark.parametrize("word", AN)
def test_an_comes_before_the_sound_of_a_vowel(word: str) -> None:
    assert article_of(word) == "an"


@pytest.mark.parametrize("word", A)
def test_a_comes_before_the_sound_of_a_consonant(word: str) -> None:
    assert article_of(word) == "a"


def test_articles_are_fitted_and_counted() -> None:
    words = ["a", "orange", "on", "an", "table", "of", "an"]
    assert fit_articles(words) == ["an", "orange", "on", "a", "table", "of", "an"]
    assert wrong_articles(words) == 2
    assert wrong_articles(fit_articles(words)) == 0


def test_other_languages_keep_their_words() -> None:
    german = Vocabulary([*SPECIAL_WORDS, "ein", "hund", "an", "der", "wand"])
    assert german.decode([6, 7, 8]) == ["an", "der", "wand"]
    english = Vocabulary([*SPECIAL_WORDS, "a", "an", "the", "of", "dog", "orange"])
    assert english.decode([4, 9, 7, 5, 8]) == ["an", "orange", "of", "a", "dog"]
