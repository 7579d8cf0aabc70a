"""Decoding options of captioners of other languages: they hold by whole words, whatever the tokens are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from captioner.captioning import resolve
from captioner.decoding.options import DecodingOptions
from captioner.errors import CaptionerError
from captioner.runtime.graphs import State, Step
from captioner.runtime.search import decode
from captioner.text.pieces import Kind, Pieces, length_of, words_of
from captioner.text.vocabulary import PAD, Vocabulary
from captioner.whole_words import WholeWords

CAPTIONS = {
    "German": [
        "Ein Hund rennt über die Straße.",
        "Zwei Hunde spielen auf der Wiese.",
        "Die Männer stehen, der Hund bellt.",
        "Ein weiß-brauner Hund, 2,5 m groß.",
    ],
    "Arabic": ["رجلٌ يجلس، وكلبه بجانبه؟", "طفلة صغيرة تتسلق إلى مسرحٍ خشبيّ."],
    "Chinese": ["一只黑色的狗在雪地里奔跑。", "两个男人站在街上。", "狗在草地上跑。"],
    "Japanese": ["黒い犬が雪の中を走っている。", "男の人が二人、道に立っている。", "犬が草の上を走る。"],
    "Thai": ["หมูสีดำวิ่งบนหิมะ", "ผู้ชายสองคนยืนอยู่ริมถนน", "ปู่นั่งกับหมู"],
}
GERMAN = CAPTIONS["German"]
SPACED = ["German", "Arabic"]
KINDS: tuple[Kind, ...] = ("words", "characters", "bpe", "unigram")
MODELS = [
    (language, kind) for language in CAPTIONS for kind in KINDS if language in SPACED or kind != "words"
]  # what the guide advises


@cache
def vocabulary_of(language: str, kind: Kind) -> Vocabulary:
    captions = CAPTIONS[language]
    tokenizer = Pieces.learn(captions * 5, 90, kind) if kind == "bpe" or kind == "unigram" else Pieces(kind)
    return Vocabulary.from_captions(captions, 1, tokenizer=tokenizer)


class Chain:
    """A decoder that knows which token follows which two in the captions, and else writes nonsense."""

    recurrent: Sequence[str] = ("before",)

    def __init__(self, language: str, vocabulary: Vocabulary) -> None:
        logits = np.random.default_rng(1).normal(size=3 * (len(vocabulary),))
        for caption in CAPTIONS[language]:
            ids = vocabulary.encode(caption)
            logits[[PAD, *ids[:-2]], ids[:-1], ids[1:]] += 7
        self.table = (logits - np.log(np.exp(logits).sum(2, keepdims=True))).astype(np.float32)

    def step(self, words: np.ndarray, state: State) -> Step:
        return Step(self.table[state["before"], words], None, {"before": words})


def captions_of(language: str, kind: Kind, **options: Any) -> list[str]:
    """The captions that NumPy's search finds under options."""
    vocabulary = vocabulary_of(language, kind)
    image = {"before": np.array([PAD])}
    resolved = resolve(DecodingOptions(beam_size=4, num_captions=4, **options), vocabulary)
    [found] = decode(Chain(language, vocabulary), image, *resolved)
    assert found
    return [vocabulary.text(hypothesis.words) for hypothesis in found]


def occurs(sequence: Sequence[str], words: Sequence[str]) -> bool:
    return any(words[start : start + len(sequence)] == sequence for start in range(len(words)))


EACH_MODEL = pytest.mark.parametrize(("language", "kind"), MODELS)
WORDS = {  # one of each language, and another that begins or ends like it
    "German": ("Hund", "Hunde"),
    "Arabic": ("صغيرة", "رجلٌ"),
    "Chinese": ("狗", "男人"),
    "Japanese": ("犬が", "黒い"),
    "Thai": ("หมู", "ปู่"),
}


@EACH_MODEL
def test_lengths_are_those_of_whole_words(language: str, kind: Kind) -> None:
    for caption in captions_of(language, kind, min_words=3, max_words=4):
        assert 3 <= round(sum(map(length_of, words_of(caption))), 6) <= 4


@EACH_MODEL
def test_forbidden_words_are_left_out_whole(language: str, kind: Kind) -> None:
    for word in WORDS[language]:
        for caption in captions_of(language, kind, forbidden_words=[word.upper()], max_words=6):
            assert not occurs(words_of(word), words_of(caption))


@EACH_MODEL
def test_required_words_are_there_whole(language: str, kind: Kind) -> None:
    one, two = WORDS[language]
    for options in ({"required_words": [one]}, {"required_words": [one], "forbidden_words": [two]}):
        for caption in captions_of(language, kind, max_words=4, **options):
            assert occurs(words_of(one), words_of(caption))
    for caption in captions_of(language, kind, required_words=[one, two], max_words=4):
        assert occurs(words_of(one), words_of(caption))
        assert occurs(words_of(two), words_of(caption))


@EACH_MODEL
@pytest.mark.parametrize("size", [1, 2])
def test_no_sequence_of_words_is_there_twice(language: str, kind: Kind, size: int) -> None:
    length = size * {"German": 1, "Arabic": 1, "Thai": 5}.get(language, 2)
    for caption in captions_of(language, kind, no_repeat_ngram=size, max_words=6):
        words = words_of(caption)
        sequences = [words[start : start + length] for start in range(len(words) - length + 1)]
        assert len(set(sequences)) == len(sequences)
        assert length > size or all(one != two for one, two in pairwise(words))


@EACH_MODEL
def test_captions_end_with_no_bad_ending(language: str, kind: Kind) -> None:
    endings = {word for caption in captions_of(language, kind, max_words=6) for word in words_of(caption)[-1:]}
    for caption in captions_of(language, kind, bad_endings=sorted(endings), max_words=6):
        assert not endings.intersection(words_of(caption)[-1:])


@EACH_MODEL
def test_captions_begin_with_the_words_of_a_prompt(language: str, kind: Kind) -> None:
    prompt = WORDS[language][1]
    for caption in captions_of(language, kind, prompt=prompt, max_words=4):
        assert caption.startswith(prompt)
        assert words_of(caption)[: len(words_of(prompt))] == words_of(prompt)


def test_options_are_in_any_case_and_leave_longer_words() -> None:
    rules = WholeWords(DecodingOptions(forbidden_words=("HUND",)), vocabulary := vocabulary_of("German", "characters"))
    out = rules.ruled_out(np.array([[vocabulary.encode("Ein Hund")[1:-1]]]))[0, 0]
    assert out[vocabulary.id("▁")]
    assert out[vocabulary.id(".")]
    assert not out[vocabulary.id("e")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"required_words": ["ein Hund"]}, "'ein Hund', which is no single word"),
        ({"forbidden_words": ["..."]}, "'...', which is no single word"),
        ({"required_words": ["Qualle"]}, "'Qualle', which the model does not know"),
        ({"required_words": ["hund"], "forbidden_words": ["Hund"]}, "'hund' is both required and forbidden"),
        ({"forbidden_words": [9999]}, "the id 9999, but the model's"),
        ({"prompt": "Zwei Hunde", "max_words": 2}, "the prompt has 2 words and max words is 2; raise it"),
        ({"prompt": "Zwei Hunde", "forbidden_words": ["hunde"]}, "the prompt has 'hunde', which is forbidden"),
        ({"prompt": "Zwei Qualle"}, "prompt has 'Qualle', which the model does not know"),
        ({"prompt": "Zwei", "required_words": ["Hund"], "max_words": 2, "bad_endings": ["Hund"]}, "no caption of at"),
        ({"prompt": "Zwei Hunde", "required_words": ["Hund", "der"], "max_words": 3}, "words need captions of 4 words"),
    ],
)
def test_options_that_cannot_be_met_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CaptionerError, match=message):
        captions_of("German", "words", **options)
