"""Accuracy of answers to questions that several people have answered: the measure of VQA.

Antol et al., 2015, VQA: Visual Question Answering, section 3; the mean over subsets and the normalization of answers
are those of https://visualqa.org/evaluation.html.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

AGREEING = 3
"""As many people make an answer entirely right."""

NUMBERS = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6"}
NUMBERS |= {"seven": "7", "eight": "8", "nine": "9", "ten": "10"}
ARTICLES = ("a", "an", "the")

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_OF_A_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")

CONTRACTIONS = """\
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'd've y'all'll you'd you'd've you'll you're you've"""

SPELLINGS = {
    word[: match.start()] + word[match.end() :]: word
    for word in CONTRACTIONS.split()
    for match in re.finditer("'", word)
}
"""Each contraction by what it is when any one apostrophe is missing."""
SPELLINGS["somebody'd"] = "somebodyd"  # the official table has this one the other way round


def normalize(answer: str) -> str:
    """Normalize an answer as the official evaluation does.

    Punctuation is removed where it stands beside a space or a number has a comma, and is a space elsewhere; periods
    remain before digits only; words of numbers up to ten become digits, articles are left out, and contractions get the
    apostrophe that they lack.
    """
    spaced = answer
    numeric = _COMMA_OF_A_NUMBER.search(answer) is not None
    for mark in PUNCTUATION:
        beside = f"{mark} " in answer or f" {mark}" in answer
        spaced = spaced.replace(mark, "" if beside or numeric else " ")
    words = [NUMBERS.get(word, word) for word in _PERIOD.sub("", spaced).lower().split()]
    return " ".join(SPELLINGS.get(word, word) for word in words if word not in ARTICLES)


def _strip(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()


def vqa_accuracy(answer: str, people: Sequence[str]) -> float:
    """Accuracy of an answer, in [0, 1].

    It is min(n / 3, 1), where n people have given the same answer, averaged over all subsets that leave one person out.
    If all people have said the same, nothing is normalized. If only one has answered, it is 1 for the same answer.

    Args:
        answer: The answer.
        people: Those of the people, ten in VQA, at least one.
    """
    answer, people = _strip(answer), [_strip(each) for each in people]
    if len(people) == 1:
        return float(normalize(answer) == normalize(people[0]))
    if len(set(people)) > 1:
        answer, people = normalize(answer), [normalize(each) for each in people]
    same = people.count(answer)
    left = Counter(same - (each == answer) for each in people)
    return sum(times * min(count / AGREEING, 1.0) for count, times in left.items()) / len(people)


def consensus(people: Sequence[str]) -> str:
    """The most frequent of the normalized answers; of equally frequent ones, the first."""
    return Counter(map(normalize, people)).most_common(1)[0][0]
