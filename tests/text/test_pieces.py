"""Captions of any language as pieces."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.errors import CaptionerError
from captioner.text.pieces import (
    Kind,
    Learned,
    Pieces,
    Reading,
    fold_word,
    join_pieces,
    length_of,
    normalize,
    separate,
    words_of,
)
from captioner.text.vocabulary import SPECIAL_WORDS, UNKNOWN, Vocabulary

CAPTIONS = {
    "German": ["Ein weiß-braun gefleckter Hund springt über die Straße.", "Zwei Männer sitzen »draußen«, 2,5 m hoch!"],
    "French": ["L'homme descend l’escalier d'un arc-en-ciel.", "Aujourd'hui, une fille joue : elle rit !"],
    "Turkish": ["İki çocuk ISPARTA'da ırmağın kıyısında.", "Istakoz İzmir'de."],
    "Arabic": ["طفلة صغيرة تتسلق إلى مسرحٍ خشبيّ.", "رجلٌ يجلس، وكلبه بجانبه؟"],
    "Chinese": ["一只黑色的狗在雪地里奔跑。", "两个男人站在街上，一个拿着iPhone 6。"],
    "Japanese": ["黒い犬が雪の中を走っている。", "スーパーで「りんご」を買う。"],
    "Thai": ["สุนัขสีดำวิ่งบนหิมะ", "ผู้ชายสองคนยืน อยู่ริมถนน"],
}
KINDS: tuple[Kind, ...] = get_args(Kind)
LEARNED: tuple[Learned, ...] = get_args(Learned)

TEXTS = [text for captions in CAPTIONS.values() for text in captions] * 5


@pytest.fixture(scope="module")
def tokenizers() -> dict[Kind, Pieces]:
    learned: dict[Kind, Pieces] = {kind: Pieces.learn(TEXTS, 400, kind) for kind in LEARNED}
    return {"words": Pieces("words"), "characters": Pieces("characters"), **learned}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", CAPTIONS)
def test_captions_come_back_as_they_were_written(kind: Kind, language: str, tokenizers: dict[Kind, Pieces]) -> None:
    captions = CAPTIONS[language]
    vocabulary = Vocabulary.from_captions(captions, 1, tokenizer=tokenizers[kind])
    for caption in captions:
        ids = vocabulary.encode(caption)
        assert UNKNOWN not in ids
        assert vocabulary.text(ids) == caption
        words, counts = vocabulary.whole_words(ids)
        assert sum(counts) == len(ids) - 2
        assert "".join(words) == caption.replace(" ", "")


@pytest.mark.parametrize("kind", KINDS[:2])
@given(text=st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])))
def test_any_text_comes_back(kind: Kind, text: str) -> None:
    assert join_pieces(Pieces(kind).split(text)) == normalize(text)


@pytest.mark.parametrize("kind", LEARNED)
def test_subwords_begin_words_at_spaces(kind: Learned, tokenizers: dict[Kind, Pieces]) -> None:
    pieces = tokenizers[kind].split("Ein Hund springt über die Straße.")
    assert "".join(pieces) == "▁Ein▁Hund▁springt▁über▁die▁Straße."
    assert len(pieces) > len(tokenizers[kind].group(pieces)) == 7


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("L'homme rit.", ["▁L'", "homme", "▁rit", "."]),
        ("Ein weiß-braun gefleckter Hund", ["▁Ein", "▁weiß-braun", "▁gefleckter", "▁Hund"]),
        ("»Ja«, 2,5 m - 10.000!", ["▁»", "Ja", "«", ",", "▁2,5", "▁m", "▁-", "▁10.000", "!"]),
        ("رجلٌ يجلس،", ["▁رجلٌ", "▁يجلس", "،"]),
        ("İzmir'de", ["▁İzmir'", "de"]),
        ("  a\n\tb  ", ["▁a", "▁b"]),
        ("", []),
    ],
)
def test_words_are_divided_at_spaces_and_punctuation(caption: str, words: list[str]) -> None:
    assert Pieces("words").split(caption) == words


def test_words_are_compared_in_any_case() -> None:
    assert fold_word("İSTANBUL") == fold_word("istanbul") == fold_word("Istanbul")
    assert fold_word("Straße") == fold_word("STRASSE")
    assert fold_word(unicodedata.normalize("NFD", "Ärger")) == fold_word("ärger")


@pytest.mark.parametrize(
    ("text", "length"),
    [("L'homme, 2 weiß-braune Hunde!", 6), ("", 0), ("黑色的狗。", 2), ("iPhone 6 手机", 3), ("สุนัข", 3 / 5)],
)
def test_words_are_counted_in_any_script(text: str, length: float) -> None:
    assert sum(map(length_of, words_of(text))) == pytest.approx(length)


def test_texts_are_separated_for_scores() -> None:
    assert separate("L'homme: 狗在 สุนัข.") == "L ' homme : 狗 在 สุ นั ข ."


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", CAPTIONS)
def test_reading_in_pieces_is_reading_at_once(kind: Kind, language: str, tokenizers: dict[Kind, Pieces]) -> None:
    for caption in CAPTIONS[language]:
        reading = Reading()
        for piece in tokenizers[kind].split(caption):
            reading = reading.read(piece)
        assert reading.words == words_of(caption)
        assert reading.is_open == (caption[-1].isalpha() and not 0xE00 <= ord(caption[-1]) < 0xE80)


@pytest.mark.parametrize("kind", LEARNED)
def test_subwords_are_the_same_each_time(kind: Learned, tokenizers: dict[Kind, Pieces]) -> None:
    again = Pieces.learn(TEXTS, 400, kind)
    assert again == tokenizers[kind]
    assert len(again.known_subwords()) < 400
    assert Vocabulary.from_captions([], tokenizer=again).words == (*SPECIAL_WORDS, *again.known_subwords())


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"kind": "syllables", "model": ""}, "'syllables', unknown here"),
        ({"kind": "bpe", "model": ""}, "'bpe' lacks its subwords"),
        ({"kind": "unigram", "model": ""}, "'unigram' lacks its subwords"),
        ({"kind": "words", "model": "{}"}, "'words' lacks its subwords, or has some"),
    ],
)
def test_a_tokenizer_of_another_version_is_refused(facts: dict[str, str], message: str) -> None:
    with pytest.raises(CaptionerError, match=message):
        Pieces(**facts)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", LEARNED)
def test_malformed_subwords_are_told(kind: Learned) -> None:
    with pytest.raises(CaptionerError, match="its subwords are malformed"):
        Pieces(kind, '{"model": 5}').split("Hund")


def test_a_word_is_divided_as_is_most_likely(tokenizers: dict[Kind, Pieces]) -> None:
    """Against all divisions of a word into subwords, by their sums of log-probabilities (Kudo, 2018, equation 2)."""
    scores = dict(json.loads(tokenizers["unigram"].model)["model"]["vocab"])
    for word in ("▁springt", "▁Straße", "▁homme"):
        best = max(divisions(word), key=lambda pieces: sum(scores.get(piece, -1e9) for piece in pieces))
        assert tokenizers["unigram"].split(word.replace("▁", " ")) == best


def divisions(word: str) -> Iterator[list[str]]:
    yield [word]
    for end in range(1, len(word)):
        yield from ([word[:end], *rest] for rest in divisions(word[end:]))


def test_too_few_subwords_for_the_characters_are_told() -> None:
    with pytest.raises(CaptionerError, match="5 subwords cannot be learned .*; ask for more"):
        Pieces.learn(TEXTS, 5, "unigram")
