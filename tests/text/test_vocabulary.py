"""Words and ids."""

from __future__ import annotations

import pytest

from captioner.errors import CaptionerError
from captioner.text.vocabulary import END, SPECIAL_WORDS, START, UNKNOWN, Vocabulary, join_words, split_words

CAPTIONS = ["A dog runs.", "A dog sits.", "The dog's red ball", "a cat"]


def test_words_are_those_seen_often_enough_most_frequent_first() -> None:
    assert Vocabulary.from_captions(CAPTIONS, min_count=2).words == (*SPECIAL_WORDS, "a", "dog")
    everything = Vocabulary.from_captions(CAPTIONS, min_count=1)
    assert everything.words[4:6] == ("a", "dog")
    assert everything.words[6:] == tuple(sorted(everything.words[6:]))


def test_a_caption_comes_back_from_its_ids() -> None:
    vocabulary = Vocabulary.from_captions(CAPTIONS, min_count=1)
    ids = vocabulary.encode("The dog's red ball!")
    assert (ids[0], ids[-1]) == (START, END)
    assert join_words(vocabulary.decode(ids)) == "the dog's red ball"


def test_a_word_never_seen_is_unknown() -> None:
    vocabulary = Vocabulary.from_captions(CAPTIONS, min_count=2)
    assert vocabulary.encode("a zebra") == [START, vocabulary.id("a"), UNKNOWN, END]


@pytest.mark.parametrize("word", SPECIAL_WORDS)
def test_a_caption_that_says_a_special_word_has_an_unknown_one(word: str) -> None:
    vocabulary = Vocabulary.from_captions(CAPTIONS, min_count=1)
    assert vocabulary.encode(f"a {word} dog") == [START, vocabulary.id("a"), UNKNOWN, vocabulary.id("dog"), END]


def test_nothing_is_read_after_the_end() -> None:
    vocabulary = Vocabulary.from_captions(CAPTIONS, min_count=1)
    assert vocabulary.decode([vocabulary.id("dog"), END, vocabulary.id("cat")]) == ["dog"]


@pytest.mark.parametrize("text", ["the dog's ball", "he doesn't run", "two dogs", "a (red) dog of 2 1/2 years", ""])
def test_joining_undoes_splitting(text: str) -> None:
    assert split_words(join_words(split_words(text))) == split_words(text)


def test_what_the_tokenizer_split_off_returns_to_its_word() -> None:
    assert join_words(split_words("He doesn't see the dog's ball")) == "he doesn't see the dog's ball"


def test_no_frequent_word_is_an_error() -> None:
    with pytest.raises(
        CaptionerError, match="no word of the training captions occurs 9 times or more; lower min_count"
    ):
        Vocabulary.from_captions(CAPTIONS, min_count=9)


@pytest.mark.parametrize(
    ("words", "message"), [(["a"], "a vocabulary begins with"), ([*SPECIAL_WORDS, "a", "a"], "has the word 'a' twice")]
)
def test_a_list_that_is_no_vocabulary_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(CaptionerError, match=message):
        Vocabulary(words)
