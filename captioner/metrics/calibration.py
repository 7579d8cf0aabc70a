"""Calibration of confidences, and hallucination among the most confident captions.

Reliability and its expected calibration error: Guo et al., ICML 2017, On Calibration of Modern Neural Networks. Risk
and coverage: El-Yaniv and Wiener, JMLR 2010; Geifman and El-Yaniv, NeurIPS 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captioner.metrics.naming import Naming
from captioner.metrics.ngrams import Floats

BINS = 10
"""Number of bins of equal width."""

KEPT = 0.8
"""Coverage of the suggested threshold on photographs."""

_COVERAGES = np.linspace(1, 0.05, 20)


class Bin(NamedTuple):
    """A bin of captions with similar confidence.

    Attributes:
        low: Lower edge.
        high: Upper edge, exclusive except for 1.
        captions: Number of captions.
        confidence: Their mean confidence.
        right: Share of correct captions.
    """

    low: float
    high: float
    captions: int
    confidence: float
    right: float


class Kept(NamedTuple):
    """Coverage and hallucination above a threshold.

    Attributes:
        threshold: The threshold.
        coverage: Share of the remaining captions.
        chair_i: CHAIRi of these, NaN if they name nothing.
        chair_s: CHAIRs of these.
    """

    threshold: float
    coverage: float
    chair_i: float
    chair_s: float


def reliability(confidences: Floats, right: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """Compute the non-empty bins, the least confident first.

    Args:
        confidences: Confidence of each caption, in [0, 1], shape (captions,).
        right: Whether each is correct, shape (captions,).
        bins: Number of bins of equal width.
    """
    place = np.minimum((confidences * bins).astype(int), bins - 1)
    return [
        Bin(k / bins, (k + 1) / bins, int(here.sum()), float(confidences[here].mean()), float(right[here].mean()))
        for k in range(bins)
        if (here := place == k).any()
    ]


def expected_calibration_error(confidences: Floats, right: NDArray[np.bool_], bins: int = BINS) -> float:
    """Expected calibration error: mean distance of confidence and share of correct captions, weighted by bin size.

    Args:
        confidences: Confidence of each caption, in [0, 1], shape (captions,).
        right: Whether each is correct, shape (captions,).
        bins: Number of bins of equal width.

    Returns:
        The error in [0, 1]; NaN without a caption.
    """
    found = reliability(confidences, right, bins)
    if not found:
        return float("nan")
    return sum(each.captions * abs(each.confidence - each.right) for each in found) / len(confidences)


def calibration_error_by_chance(confidences: Floats, samples: int = 200, seed: int = 0, bins: int = BINS) -> float:
    """Expected calibration error of perfectly calibrated confidences, due to the finite number of captions.

    Args:
        confidences: Confidence of each caption, in [0, 1], shape (captions,).
        samples: Number of simulations.
        seed: Seed of the simulations.
        bins: Number of bins of equal width.
    """
    drawn = np.random.default_rng(seed).random((samples, len(confidences))) < confidences
    return float(np.mean([expected_calibration_error(confidences, right, bins) for right in drawn]))


def threshold_keeping(confidences: Floats, share: float = KEPT) -> float:
    """Compute the greatest threshold that keeps at least a share of the captions.

    Args:
        confidences: Confidence of each caption, in [0, 1], shape (captions,), at least one.
        share: In (0, 1].
    """
    count = max(1, int(np.ceil(share * len(confidences) - 1e-9)))
    return float(np.sort(confidences)[-count])


def keep(naming: Naming, confidences: Floats, threshold: float) -> Kept:
    """Select the captions with at least a confidence.

    Args:
        naming: Objects named by all captions.
        confidences: Confidences of all captions, in the same order.
        threshold: Captions below are dropped.
    """
    kept = confidences >= threshold
    images = tuple(image for image, stays in zip(naming.images, kept, strict=True) if stays)
    shares = Naming(images).corpus()
    return Kept(threshold, len(images) / len(kept), shares["CHAIRi"], shares["CHAIRs"])


def risk_coverage(naming: Naming, confidences: Floats, coverages: Sequence[float] | Floats = _COVERAGES) -> list[Kept]:
    """Compute coverage and hallucination at thresholds for given coverages.

    Args:
        naming: Objects named by all captions.
        confidences: Confidences of all captions, in the same order.
        coverages: The shares.
    """
    return [keep(naming, confidences, threshold_keeping(confidences, float(share))) for share in coverages]


def are_right(naming: Naming) -> NDArray[np.bool_]:
    """Whether each caption is free of hallucinations."""
    return np.array([image.named <= image.present for image in naming.images], dtype=bool)
