"""Captions as numbers, so that the scores of a whole corpus are a few array operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_ORDER = 4
"""The longest n-grams that are counted."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Ngrams(NamedTuple):
    """How often each n-gram of one order occurs in each sentence, by sentence, then n-gram.

    Attributes:
        sentence: Which sentence, shape (entries,).
        ngram: Which n-gram: a number that is the same in hypotheses and references, shape (entries,).
        count: How often, shape (entries,).
    """

    sentence: Ints
    ngram: Ints
    count: Ints


@dataclass(frozen=True)
class Sentences:
    """Sentences as one row of word numbers.

    Attributes:
        words: The words of all sentences, shape (words,).
        lengths: Words of each sentence, shape (sentences,).
    """

    words: Ints
    lengths: Ints

    @property
    def starts(self) -> Ints:
        """Where each sentence begins, shape (sentences,)."""
        return np.cumsum(self.lengths) - self.lengths


@dataclass(frozen=True)
class Corpus:
    """Hypotheses and references of a corpus.

    Attributes:
        hypotheses: One sentence for each image.
        references: The sentences of the first image, then those of the second, and so on.
        image: Which image each reference belongs to, shape (references,), ascending.
        vocabulary: Number of different words.
    """

    hypotheses: Sentences
    references: Sentences
    image: Ints
    vocabulary: int

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.hypotheses.lengths)

    def ngrams(self, order: int) -> tuple[Ngrams, Ngrams, int]:
        """Counts n-grams.

        Args:
            order: How many words, 1 to `MAX_ORDER`.

        Returns:
            Those of the hypotheses, those of the references, and how many different ones there are.
        """
        hypotheses, references = self.hypotheses, self.references
        lengths = np.concatenate([hypotheses.lengths, references.lengths])
        words = np.concatenate([hypotheses.words, references.words])
        sentence = np.repeat(np.arange(len(lengths)), lengths)
        left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(words))
        begins = np.flatnonzero(left >= order)
        codes = words[begins]
        different = self.vocabulary
        for offset in range(1, order):
            if different * self.vocabulary >= _LARGEST:
                seen, codes = np.unique(codes, return_inverse=True)
                different = len(seen)
            codes = codes * self.vocabulary + words[begins + offset]
            different *= self.vocabulary
        seen, codes = np.unique(codes, return_inverse=True)
        different = max(1, len(seen))
        entries, counts = np.unique(sentence[begins] * different + codes, return_counts=True)
        found = Ngrams(*np.divmod(entries, different), counts.astype(np.int64))
        split = np.searchsorted(found.sentence, self.images)
        own = Ngrams(*(part[:split] for part in found))
        others = Ngrams(found.sentence[split:] - self.images, found.ngram[split:], found.count[split:])
        return own, others, different


_LARGEST = 2**62
"""Numbers of n-grams stay below, and fit 64 bits."""


def index_corpus(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> Corpus:
    """Numbers the words of a corpus.

    Args:
        hypotheses: The tokens of each image's caption.
        references: The tokens of each image's references, at least one an image.
    """
    numbers: dict[str, int] = {}
    flat = [reference for group in references for reference in group]
    image = np.repeat(np.arange(len(references)), [len(group) for group in references])
    indexed = _index(hypotheses, numbers), _index(flat, numbers)
    return Corpus(*indexed, image, vocabulary=max(1, len(numbers)))


def _index(sentences: Sequence[Sequence[str]], numbers: dict[str, int]) -> Sentences:
    words = [numbers.setdefault(word, len(numbers)) for sentence in sentences for word in sentence]
    lengths = [len(sentence) for sentence in sentences]
    return Sentences(np.array(words, dtype=np.int64), np.array(lengths, dtype=np.int64))


def find(entries: Ints, table: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Looks numbers up.

    Args:
        entries: What to look for, shape (entries,).
        table: Ascending numbers, shape (size,).

    Returns:
        For each entry its place in the table, and whether it is there.
    """
    places = np.minimum(np.searchsorted(table, entries), max(0, len(table) - 1))
    there = table[places] == entries if len(table) else np.zeros(len(entries), dtype=bool)
    return places, there
