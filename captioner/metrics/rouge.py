"""ROUGE-L (Lin, 2004), as in the COCO evaluation."""

from __future__ import annotations

import numpy as np

from captioner.metrics.ngrams import Corpus, Floats, Ints, Sentences

BETA = 1.2
"""Weight of recall relative to precision."""

_BITS = 64


def rouge_l(corpus: Corpus) -> Floats:
    """Compute ROUGE-L of each image: F = (1 + β²) P R / (R + β² P). The score of a corpus is the mean over its images.

    P and R are the length of the longest common subsequence over that of the hypothesis and of the reference; the
    maxima of precision and recall over the references of an image are independent of each other.

    Args:
        corpus: The corpus. A sentence without words must consist of one empty word, as in the official code.

    Returns:
        Values in [0, 1], shape (images,).
    """
    common = _common(corpus)
    firsts = np.searchsorted(corpus.image, np.arange(corpus.images))
    precision = np.maximum.reduceat(common / corpus.hypotheses.lengths[corpus.image], firsts)
    recall = np.maximum.reduceat(common / corpus.references.lengths, firsts)
    weight = recall + BETA**2 * precision
    product = (1 + BETA**2) * precision * recall
    return np.divide(product, weight, out=np.zeros_like(weight), where=product > 0)


def _common(corpus: Corpus) -> Ints:
    """Length of the longest common subsequence of each reference and its hypothesis, shape (references,)."""
    short = corpus.hypotheses.lengths[corpus.image] <= _BITS
    common = np.empty(len(corpus.image), dtype=np.int64)
    common[short] = _common_in_bits(corpus, np.flatnonzero(short))
    for index in np.flatnonzero(~short):
        hypothesis = _words(corpus.hypotheses, int(corpus.image[index]))
        common[index] = _common_by_table(hypothesis, _words(corpus.references, int(index)))
    return common


def _common_in_bits(corpus: Corpus, chosen: Ints) -> Ints:
    """Bit-parallel algorithm for all pairs at once, for hypotheses of up to 64 words (Hyyrö, 2004).

    Bit i of V is 0 where a longest common subsequence grows at word i of the hypothesis. The update for a word of the
    reference with the positions M in the hypothesis is U = V & M, V = (V + U) | (V - U).
    """
    image = corpus.image[chosen]
    lengths, others = corpus.hypotheses.lengths[image], corpus.references.lengths[chosen]
    order = np.argsort(-others, kind="stable")
    image, chosen, others = image[order], chosen[order], others[order]
    grid = _grid(corpus.hypotheses)[image]  # (pairs, longest hypothesis)
    bits = np.left_shift(np.uint64(1), np.arange(grid.shape[1], dtype=np.uint64))
    starts = corpus.references.starts[chosen]
    values = np.full(len(chosen), ~np.uint64(0))
    for step in range(int(others.max(initial=0))):
        open_ = int(np.searchsorted(-others, -step))  # pairs whose reference is longer than this
        words = corpus.references.words[starts[:open_] + step]
        indices = (grid[:open_] == words[:, None]) @ bits
        both = values[:open_] & indices
        values[:open_] = (values[:open_] + both) | (values[:open_] - both)
    grown = np.bitwise_not(values)[:, None] & bits
    found = np.empty(len(chosen), dtype=np.int64)
    found[order] = np.count_nonzero(grown, axis=1)
    return np.minimum(found, lengths)


def _common_by_table(first: Ints, second: Ints) -> int:
    row = np.zeros(len(second) + 1, dtype=np.int64)
    for word in first:
        grown = np.maximum(row[1:], row[:-1] + (second == word))
        row[1:] = np.maximum.accumulate(grown)
    return int(row[-1])


def _grid(sentences: Sentences) -> Ints:
    """Sentences of up to 64 words as rows, padded with -1; longer ones are truncated."""
    width = int(min(_BITS, sentences.lengths.max(initial=0)))
    indices = sentences.starts[:, None] + np.arange(width)
    inside = np.arange(width) < sentences.lengths[:, None]
    padded = np.append(sentences.words, -1)
    return np.where(inside, padded[np.minimum(indices, len(sentences.words))], -1)


def _words(sentences: Sentences, index: int) -> Ints:
    start = sentences.starts[index]
    return sentences.words[start : start + sentences.lengths[index]]
