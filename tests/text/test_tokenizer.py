"""Tokens against those of the official Java lexer."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from captioner.errors import CaptionerError
from captioner.metrics.jvm import find_jar, find_java
from captioner.text.tokenizer import PUNCTUATION, tokenize

SHARED = Path(__file__).parents[3] / "shared"
OFFICIAL_PUNCTUATION = PUNCTUATION | {"-LRB-", "-RRB-", "-LCB-", "-RCB-"}


@pytest.fixture(scope="module")
def lexer(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[str]], list[list[str]]]:
    """Asks the official lexer as the official scores do: all captions in one file, a line each."""
    try:
        java, jar = find_java(), find_jar("tokenizer/stanford-corenlp-3.4.1.jar")
    except CaptionerError as error:
        pytest.skip(str(error))
    file = tmp_path_factory.mktemp("lexer") / "captions.txt"

    def ask(captions: Sequence[str]) -> list[list[str]]:
        file.write_text("\n".join(caption.replace("\n", " ") for caption in captions), encoding="utf-8")
        command = [java, "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-cp", str(jar)]
        command += ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", str(file)]
        answer = subprocess.run(command, capture_output=True, check=True, timeout=300).stdout.decode()
        lines = answer.split("\n")[: len(captions)]
        assert len(lines) == len(captions)
        return [[token for token in line.rstrip().split(" ") if token not in OFFICIAL_PUNCTUATION] for line in lines]

    return ask


def assert_equal(captions: Sequence[str], official: Sequence[Sequence[str]]) -> None:
    pairs = zip(captions, official, tokenize(captions), strict=True)
    wrong = [(text, wanted, got) for text, wanted, got in pairs if " ".join(wanted) != " ".join(got)]
    assert not wrong, f"{len(wrong)} of {len(captions)}, such as {wrong[:3]}"


def read_flickr8k() -> list[str]:
    lines = (SHARED / "flickr8k" / "Flickr8k.token.txt").read_text(encoding="utf-8").split("\n")
    return [line.split("\t", 1)[1] for line in lines if line]


def read_coco() -> list[str]:
    content = json.loads((SHARED / "coco" / "annotations" / "captions_val2017.json").read_text())
    groups: dict[int, list[str]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        groups[annotation["image_id"]].append(annotation["caption"])
    return [caption for group in groups.values() for caption in group]


@pytest.mark.java
@pytest.mark.shared_data
@pytest.mark.parametrize(("read", "count"), [(read_flickr8k, 40460), (read_coco, 25014)])
def test_every_caption_of_a_corpus_has_the_official_tokens(
    read: Callable[[], list[str]], count: int, lexer: Callable[[Sequence[str]], list[list[str]]]
) -> None:
    if not SHARED.exists():
        pytest.skip(f"{SHARED} with the captions is not here")
    captions = read()
    assert len(captions) == count
    assert_equal(captions, lexer(captions))


PIECES = (
    *("dog", "a", "A", "K.", "The", "In", "x", "s", "t", "st.", "Mr.", "co.", "etc.", "no.", "U.S.", "e.g.", "p.m."),
    *("don't", "cannot", "gonna", "o'clock", "y'all", "'em", "'n'", "'90s", "'s", "n't", "'ll", "d'", "l'", "'", '"'),
    *(
        "5",
        "12",
        "1/2",
        "3.5",
        "1,000",
        "10:30",
        "555",
        "1234",
        "½",
        "²",
        "-",
        "--",
        "...",
        ".",
        ",",
        "!",
        "?",
        ";",
        ":",
    ),
    *("(", ")", "[", "]", "<", ">", "<unk>", "&", "&amp;", "$", "£", "€", "%", "#", "@", "/", "\\", "*", "_", "+", "="),
    *(
        ":)",
        "^_^",
        "http://ab.cd",
        "www.x.com",
        "a@b.c",
        "foo.com",
        "5.jpg",
        "é",
        "naïve",
        "日本",
        "е́",
        "’",
        "“",
        "…",
        "–",
    ),
    *("😀", "\t", "\u00a0", "\u200b"),
)


@pytest.mark.java
def test_invented_strings_have_the_official_tokens(lexer: Callable[[Sequence[str]], list[list[str]]]) -> None:
    chance = random.Random(1)
    captions = [
        "".join(chance.choice(PIECES) + chance.choice(["", "", " ", "-"]) for _ in range(chance.randint(1, 6)))
        for _ in range(20_000)
    ]
    assert_equal(captions, lexer(captions))


@pytest.mark.shared_data
def test_the_tokens_of_the_official_example(official: dict[str, Any]) -> None:
    """Candidates and references are read apart, each in one go: a caption's tokens can depend on the next."""
    for texts, tokens in (
        (list(official["candidates"].values()), [group[0] for group in official["candidate_tokens"].values()]),
        (
            [text for group in official["references"].values() for text in group],
            [line for group in official["reference_tokens"].values() for line in group],
        ),
    ):
        assert [" ".join(each) for each in tokenize(texts)] == tokens


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A dog's ball, isn't it?", "a dog 's ball is n't it"),
        ("He can't, cannot, gonna.", "he ca n't can not gon na"),
        ("boys' toys; 'quoted' and “curly”", "boys toys quoted and curly"),
        ("w/ a hat, w/o shoes and/or socks", "w / a hat w/o shoes and/or socks"),
        ("St. Mary's Ave., the U.S. and T.V.", "st. mary 's ave. the u.s. and t.v."),
        ("No. 5, but no. No!", "no. 5 but no no"),
        ("$5, £5, 5€, 5¢, 50% and #41", "$ 5 # 5 5 $ 5 cents 50 % and # 41"),
        ("at 10:30am or 6am, 1,000 in '90s style", "at 10:30 am or 6am 1,000 in '90s style"),
        ("A '90S COAT, '80s", "a '90s coat '80s"),
        ("22 3/4 inches", "22\xa03/4 inches"),
        ("(a) [b] {c}", "-lrb- a -rrb- -lsb- b -rsb- -lcb- c -rcb-"),
        ("<unk> a <UNK>.", "<unk> a <unk>"),
        ("AT&T &amp; R&B :-)", "at&t & r&b :--rrb-"),
        ("wow!! what?!", "wow !! what ?!"),
        ("café 日本 😀 naïve", "café 日本 naïve"),
        ("a\nb\r\nc\u2028d\x0be", "a b c d e"),
        ("", ""),
        (" . ", ""),
    ],
)
def test_rules_by_example(caption: str, tokens: str) -> None:
    assert " ".join(tokenize([caption])[0]) == tokens


def test_the_next_caption_can_begin_a_sentence() -> None:
    assert tokenize(["reads K.", "The dog runs"])[0] == ["reads", "k"]
    assert tokenize(["reads K.", "dogs run"])[0] == ["reads", "k."]
    assert tokenize(["reads K."])[0] == ["reads", "k."]


def test_captions_that_are_known_by_heart_read_like_new_ones() -> None:
    captions = ["a dog runs.", "A dog, a dog (5) runs.", "no. dog 5 no. 5", "dog dog."]
    together = tokenize(captions)
    assert together == [tokenize([caption])[0] for caption in captions]
