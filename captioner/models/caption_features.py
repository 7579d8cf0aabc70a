"""Features of a caption for its confidence, computed without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

FEATURES = (
    "mean log-probability",
    "least log-probability",
    "words",
    "things",
    "mean log-probability of things",
    "least log-probability of things",
    "mean log-odds of things",
    "least log-odds of things",
    "mean log-odds of concepts",
    "least log-odds of concepts",
    "greatest log-odds of a concept",
)
"""Features of a caption. Things are words that name one of COCO's 80 categories, counted at their first mention.
Log-probabilities are the decoder's; log-odds are those of the decoder's concepts, given only the image. Missing values,
such as those of concepts in a decoder without, are 0."""


class Suggested(NamedTuple):
    """Log-odds of the decoder's concepts for an image; empty without concepts.

    Attributes:
        words: Log-odds of each concept, by word id.
        things: Log-odds of the most likely concept that names a thing, by the thing's number.
    """

    words: Mapping[int, float]
    things: Mapping[int, float]


def suggest(words: Sequence[int], log_odds: Sequence[float], things: Sequence[int]) -> Suggested:
    """Sort the log-odds of one image's concepts by word and by thing.

    Args:
        words: The word id of each concept.
        log_odds: Log-odds of each concept.
        things: For each word of the vocabulary, 1 + the number of the category that it names, 0 where it names none.
    """
    of_things: dict[int, float] = {}
    for word, value in zip(words, log_odds, strict=True):
        if thing := things[word]:
            of_things[thing] = max(value, of_things.get(thing, -math.inf))
    return Suggested(dict(zip(words, log_odds, strict=True)), of_things)


def caption_features(
    words: Sequence[int], log_probabilities: Sequence[float], things: Sequence[int], concepts: Suggested
) -> list[float]:
    """Compute the `FEATURES` of one caption.

    Args:
        words: Word ids.
        log_probabilities: Log-probability of each word, then of END if the caption is complete.
        things: As for `suggest`.
        concepts: The image's concepts.
    """
    named: dict[int, float] = {}
    for word, log_probability in zip(words, log_probabilities, strict=False):
        if things[word]:
            named.setdefault(things[word], log_probability)
    of_things = [concepts.things[thing] for thing in named if thing in concepts.things]
    of_words = [concepts.words[word] for word in dict.fromkeys(words) if word in concepts.words]
    return [
        _mean(log_probabilities),
        min(log_probabilities, default=0.0),
        float(len(words)),
        float(len(named)),
        _mean(list(named.values())),
        min(named.values(), default=0.0),
        _mean(of_things),
        min(of_things, default=0.0),
        _mean(of_words),
        min(of_words, default=0.0),
        max(concepts.words.values(), default=0.0),
    ]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0
