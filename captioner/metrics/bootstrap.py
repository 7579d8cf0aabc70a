"""Confidence intervals by bootstrap over images (Efron and Tibshirani, 1993), and paired tests (Koehn, 2004)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from captioner.errors import CaptionerError
from captioner.metrics.evaluation import BLEU_NAMES, Evaluation, ImageId
from captioner.metrics.ngrams import Floats

SAMPLES = 1000
COVERAGE = 0.95
"""Coverage of the confidence intervals."""


class Interval(NamedTuple):
    """Lower and upper bound of the central 95 % of the samples."""

    low: float
    high: float


class Difference(NamedTuple):
    """Difference of a score between two sets of captions.

    Attributes:
        difference: Second minus first, on all images.
        interval: Central 95 % of the difference over samples of the images.
        p_value: Two-sided p-value in (0, 1]: twice the share of samples in which the difference is 0 or has the
            opposite sign.
    """

    difference: float
    interval: Interval
    p_value: float


def intervals(evaluation: Evaluation[ImageId], samples: int = SAMPLES, seed: int = 0) -> dict[str, Interval]:
    """Compute the 95 % interval of each corpus score, over samples of images drawn with replacement.

    Args:
        evaluation: The scores.
        samples: Number of samples, at least 1.
        seed: Seed of the sampling.

    Returns:
        The interval of each score by name. The document frequencies of CIDEr remain those of all images.
    """
    weights = bootstrap_weights(len(evaluation.images), samples, seed)
    return {name: percentile_interval(values) for name, values in _resampled(evaluation, weights).items()}


def compare(
    first: Evaluation[ImageId], second: Evaluation[ImageId], samples: int = SAMPLES, seed: int = 0
) -> dict[str, Difference]:
    """Compare two sets of captions of the same images by a paired bootstrap.

    Args:
        first: Scores of the first set.
        second: Scores of the second set.
        samples: Number of samples, at least 1.
        seed: Seed of the sampling.

    Returns:
        The difference of each score by name.

    Raises:
        CaptionerError: The two sets are of different images.
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
    """Number of times that each sample contains each image, shape (samples, images)."""
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
