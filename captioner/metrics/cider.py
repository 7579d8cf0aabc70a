"""CIDEr-D (Vedantam et al., 2015), which the COCO evaluation calls CIDEr."""

from __future__ import annotations

import numpy as np

from captioner.metrics.corpus import MAX_ORDER, Corpus, Floats, Ngrams, Order, find

SIGMA = 6.0
"""Width of the Gaussian by which a difference in length is punished, in bigrams."""

SCALE = 10.0


def cider(corpus: Corpus) -> Floats:
    """CIDEr-D of each image: ten times the mean similarity of its hypothesis to its references.

    An n-gram g weighs count(g) · log(images / images with g in a reference), n from 1 to 4. A hypothesis is compared by
    the cosine of such vectors, its own weights clipped at the reference's, and exp(-Δ²/2σ²) for a difference of Δ in
    length. The score of a corpus is the mean over its images.

    Args:
        corpus: The corpus whose references also give the frequencies: among other images, an image scores otherwise,
            and an image alone scores 0.

    Returns:
        Values in [0, 10], shape (images,).
    """
    similarity = sum(_similarity(corpus, order) for order in corpus.orders) / MAX_ORDER
    bigrams, others = (np.maximum(0, side.lengths - 1) for side in (corpus.hypotheses, corpus.references))
    similarity = similarity * np.exp(-((bigrams[corpus.image] - others) ** 2) / (2 * SIGMA**2))
    total = np.bincount(corpus.image, similarity, minlength=corpus.images)
    scores: Floats = SCALE * total / np.bincount(corpus.image, minlength=corpus.images)
    return scores


def _similarity(corpus: Corpus, order: Order) -> Floats:
    """The clipped cosine of each reference with its image's hypothesis, shape (references,)."""
    hypotheses, references = order.hypotheses, order.references
    frequency = np.bincount(order.known // corpus.images, minlength=order.different)
    rarity = np.log(corpus.images) - np.log(np.maximum(1, frequency))
    own, others = (side.times * rarity[side.ngram] for side in (hypotheses, references))
    norms = _norms(hypotheses, own, corpus.images)[corpus.image] * _norms(references, others, len(corpus.image))
    wanted = references.ngram * corpus.images + corpus.image[references.sentence]
    places, there = find(wanted, hypotheses.ngram * corpus.images + hypotheses.sentence)
    products = np.minimum(own[places[there]], others[there]) * others[there]
    dots = np.bincount(references.sentence[there], products, minlength=len(corpus.image))
    return np.divide(dots, norms, out=np.zeros(len(dots)), where=norms > 0)


def _norms(ngrams: Ngrams, weights: Floats, sentences: int) -> Floats:
    return np.sqrt(np.bincount(ngrams.sentence, weights**2, minlength=sentences))
