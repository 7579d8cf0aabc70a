"""How far a score could be off: bootstrap over images (Efron and Tibshirani, 1993; Koehn, 2004, for the paired one)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from captioner.errors import CaptionerError
from captioner.metrics.evaluation import BLEU_NAMES, Evaluation, ImageId
from captioner.metrics.ngrams import Floats

SAMPLES = 1000
COVERAGE = 0.95
"""The share of samples that an interval holds."""


class Interval(NamedTuple):
    """The middle 95 % of what samples give."""

    low: float
    high: float


class Difference(NamedTuple):
    """How much better the second of two sets of captions is than the first.

    Attributes:
        difference: Second minus first, on all images.
        interval: The middle 95 % of the difference in samples of the images.
        p_value: Twice the share of samples in which the sign is the other one or there is no difference: how surprising
            the difference would be if there were none, in (0, 1].
    """

    difference: float
    interval: Interval
    p_value: float


def intervals(evaluation: Evaluation[ImageId], samples: int = SAMPLES, seed: int = 0) -> dict[str, Interval]:
    """The 95 % interval of each corpus score, over samples of as many images, drawn with replacement.

    Args:
        evaluation: The scores.
        samples: How many samples, at least 1.
        seed: The same seed gives the same intervals.

    Returns:
        By name of the score. CIDEr's document frequencies stay those of the whole set.
    """
    weights = bootstrap_weights(len(evaluation.images), samples, seed)
    return {name: percentile_interval(values) for name, values in _resampled(evaluation, weights).items()}


def compare(
    first: Evaluation[ImageId], second: Evaluation[ImageId], samples: int = SAMPLES, seed: int = 0
) -> dict[str, Difference]:
    """Compares two sets of captions of the same images, on the same samples of them.

    Args:
        first: Scores of the one.
        second: Scores of the other.
        samples: How many samples, at least 1.
        seed: The same seed gives the same result.

    Returns:
        By name of the score.

    Raises:
        CaptionerError: The two are about different images.
    """
    if first.images != second.images:
        raise CaptionerError("only captions of the same images, in the same order, can be compared")
    weights = bootstrap_weights(len(first.images), samples, seed)
    one, other = _resampled(first, weights), _resampled(second, weights)
    whole_one, whole_other = first.corpus(), second.corpus()
    results = {}
    for name in one:
        difference = whole_other[name] - whole_one[name]
        drawn = other[name] - one[name]
        against = np.count_nonzero(drawn <= 0 if difference > 0 else drawn >= 0)
        p_value = 1.0 if difference == 0 else min(1.0, 2 * (int(against) + 1) / (samples + 1))
        results[name] = Difference(difference, percentile_interval(drawn), p_value)
    return results


def bootstrap_weights(images: int, samples: int, seed: int) -> Floats:
    """How often each sample has each image, shape (samples, images)."""
    drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=samples)
    return drawn.astype(np.float64)


def _resampled(evaluation: Evaluation[ImageId], weights: Floats) -> dict[str, Floats]:
    bleu = evaluation.bleu.weighted(weights).scores()
    means = {name: weights @ values / len(evaluation.images) for name, values in evaluation.means.items()}
    return dict(zip(BLEU_NAMES, bleu.T, strict=True)) | means


def percentile_interval(values: Floats) -> Interval:
    """The middle 95 % of values."""
    low, high = np.quantile(values, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Interval(float(low), float(high))
