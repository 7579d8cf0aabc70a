"""Concept words, and the concepts named by an image's captions and tags.

``concepts.json`` beside this module lists the everyday word for each of ImageNet's 1,000 classes (``classes``) and of
COCO's 80 object categories (``things``), and words that name nothing visible (``never``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from captioner.data.records import Record
from captioner.text.vocabulary import SPECIAL_WORDS, Vocabulary, split_words
from captioner.utils.caching import memoized

FILE = Path(__file__).with_name("concepts.json")

FREQUENT = 1200
"""Number of the most frequent words that can be concepts, besides those of classes and object categories."""


class _Known(NamedTuple):
    classes: tuple[str | None, ...]
    things: dict[str, str | None]
    never: frozenset[str]


@memoized()
def known() -> _Known:
    """The content of ``concepts.json``."""
    content = json.loads(FILE.read_text(encoding="utf-8"))
    return _Known(tuple(content["classes"]), content["things"], frozenset(content["never"]))


def wanted_words() -> list[str]:
    """Words of classes and object categories, which belong in a vocabulary even if no caption has them."""
    named = [*known().classes, *known().things.values()]
    return sorted({word for word in named if word is not None})


class ConceptWords:
    """The concepts of a vocabulary: frequent content words, and the words of classes and object categories.

    Args:
        vocabulary: The vocabulary.

    Attributes:
        ids: The word of each concept, shape (concepts,); the first is PAD, for classes without a word.
        classes: The concept of each class, shape (1000,).
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        frequent = [word for word in vocabulary.words[len(SPECIAL_WORDS) :][:FREQUENT] if word not in known().never]
        words = [word for word in dict.fromkeys([*frequent, *wanted_words()]) if word in vocabulary]
        self._index = {word: index for index, word in enumerate(words, start=1)}
        self.ids = torch.tensor([0, *map(vocabulary.id, words)])
        self.classes = torch.tensor([self._index.get(word or "", 0) for word in known().classes])

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, record: Record) -> list[tuple[int, float]]:
        """The indices of the concepts that an image's captions and tags name, each with a probability."""
        found: dict[int, float] = {}
        for tag, probability in record.tags:
            index = self._index.get(known().things.get(tag) or tag)
            if index is not None:
                found[index] = max(found.get(index, 0.0), probability)
        for word in {word for caption in record.captions for word in split_words(caption)}:
            for form in (word, word.removesuffix("s"), word.removesuffix("es")):
                if form in self._index:
                    found[self._index[form]] = 1.0
        return list(found.items())


def as_targets(found: Iterable[tuple[int, float]], size: int) -> Tensor:
    """Probabilities of all concepts of an image, shape (size,)."""
    targets = torch.zeros(size)
    for index, probability in found:
        targets[index] = probability
    return targets
