"""N-gram counts of a corpus as arrays, which turn its scores into a few array operations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_ORDER = 4
"""Length of the longest n-grams that are counted."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Ngrams(NamedTuple):
    """Counts of the n-grams of one order in some sentences, sorted by n-gram, then sentence.

    Attributes:
        ngram: Id of the n-gram, the same in hypotheses and references, shape (entries,).
        sentence: Index of the sentence, shape (entries,).
        times: Number of occurrences, shape (entries,).
    """

    ngram: Ints
    sentence: Ints
    times: Ints


class Order(NamedTuple):
    """All n-grams of one order.

    Attributes:
        hypotheses: N-grams of the hypotheses, one sentence per image.
        references: N-grams of the references.
        known: The n-grams in references of each image, as ``ngram · images + image``, ascending, shape (known,).
        group: Index into ``known`` of each entry of ``references``, shape (entries,).
        different: Number of distinct n-grams.
    """

    hypotheses: Ngrams
    references: Ngrams
    known: Ints
    group: Ints
    different: int


@dataclass(frozen=True)
class Sentences:
    """Sentences as one array of word ids.

    Attributes:
        words: Word ids of all sentences, shape (words,).
        lengths: Length of each sentence, shape (sentences,).
    """

    words: Ints
    lengths: Ints

    @property
    def starts(self) -> Ints:
        """Start of each sentence, shape (sentences,)."""
        return np.cumsum(self.lengths) - self.lengths


@dataclass(frozen=True, eq=False)
class Corpus:
    """Hypotheses and references of a corpus.

    Attributes:
        hypotheses: One sentence per image.
        references: The sentences of the first image, then those of the second, and so on.
        image: Image of each reference, shape (references,), ascending.
        vocabulary: The word of each id.
    """

    hypotheses: Sentences
    references: Sentences
    image: Ints
    vocabulary: Sequence[str]

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.hypotheses.lengths)

    @cached_property
    def orders(self) -> list[Order]:
        """Count the n-grams of 1 to `MAX_ORDER` words."""
        lengths = np.concatenate([self.hypotheses.lengths, self.references.lengths])
        words = np.concatenate([self.hypotheses.words, self.references.words])
        sentence = np.repeat(np.arange(len(lengths)), lengths)
        left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(words))
        orders = []
        size = max(1, len(self.vocabulary))
        codes, bound = words, size
        for order in range(1, MAX_ORDER + 1):
            begins = np.flatnonzero(left >= order)
            if order > 1:
                # Where no n-gram begins, the code is meaningless and not used.
                following = np.append(words[order - 1 :], np.zeros(order - 1, dtype=np.int64))[: len(words)]
                codes = codes * size + following
                bound *= size
            if bound * max(len(lengths), size) >= _LARGEST:
                seen, codes = np.unique(codes, return_inverse=True)
                bound = len(seen)
            orders.append(self._count(codes[begins], sentence[begins], len(lengths)))
        return orders

    def _count(self, codes: Ints, sentence: Ints, sentences: int) -> Order:
        """Count n-grams given by their codes and sentences."""
        keys = np.sort(codes * sentences + sentence)
        first = _begins(keys)
        code, own = np.divmod(keys[first], sentences)
        times = np.diff(np.append(first, len(keys)))
        new = np.zeros(len(code), dtype=np.int64)
        new[_begins(code)[1:]] = 1
        ngram = np.cumsum(new)
        of_hypothesis = own < self.images
        hypotheses = Ngrams(ngram[of_hypothesis], own[of_hypothesis], times[of_hypothesis])
        references = Ngrams(ngram[~of_hypothesis], own[~of_hypothesis] - self.images, times[~of_hypothesis])
        pairs = references.ngram * self.images + self.image[references.sentence]
        starts = _begins(pairs)
        group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(pairs))))
        return Order(hypotheses, references, pairs[starts], group, int(ngram[-1]) + 1 if len(ngram) else 0)


def _begins(ascending: Ints) -> Ints:
    """Start of each run of equal numbers."""
    return np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1])[: len(ascending)])


_LARGEST = 2**62
"""Upper bound of n-gram codes, so that they fit into 64 bits."""


def index_corpus(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> Corpus:
    """Index the words of a corpus.

    Args:
        hypotheses: The tokens of the caption of each image.
        references: The tokens of the references of each image, at least one per image.
    """
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    flat = [reference for group in references for reference in group]
    image = np.repeat(np.arange(len(references)), [len(group) for group in references])
    indexed = _index(hypotheses, numbers), _index(flat, numbers)
    return Corpus(*indexed, image, vocabulary=list(numbers))


def _index(sentences: Sequence[Sequence[str]], numbers: Mapping[str, int]) -> Sentences:
    words = [numbers[word] for sentence in sentences for word in sentence]
    lengths = [len(sentence) for sentence in sentences]
    return Sentences(np.array(words, dtype=np.int64), np.array(lengths, dtype=np.int64))


def find(entries: Ints, table: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Look up numbers in a sorted table.

    Args:
        entries: Numbers to look up, shape (entries,).
        table: Ascending numbers, shape (size,).

    Returns:
        The index of each entry in the table, and whether it is there.
    """
    indices = np.minimum(np.searchsorted(table, entries), max(0, len(table) - 1))
    there = table[indices] == entries if len(table) else np.zeros(len(entries), dtype=bool)
    return indices, there
