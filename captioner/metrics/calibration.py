"""Is a confidence what it says? Calibration, and what is gained by keeping the surest captions alone.

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
"""Bins of equal width that confidences are sorted into."""

KEPT = 0.8
"""Share of photographs that a threshold for everyday use keeps."""

_COVERAGES = np.linspace(1, 0.05, 20)


class Bin(NamedTuple):
    """Captions of about one confidence.

    Attributes:
        low: Least confidence.
        high: Greatest confidence, which belongs to the next bin but for 1.
        captions: How many there are.
        confidence: Their mean confidence.
        right: Share of them that are right.
    """

    low: float
    high: float
    captions: int
    confidence: float
    right: float


class Kept(NamedTuple):
    """What is left when captions below a threshold are dropped.

    Attributes:
        threshold: The threshold.
        coverage: Share of the captions that are left.
        chair_i: CHAIRi of these, NaN where they name nothing.
        chair_s: CHAIRs of these.
    """

    threshold: float
    coverage: float
    chair_i: float
    chair_s: float


def reliability(confidences: Floats, right: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """The bins that hold a caption, the least sure first.

    Args:
        confidences: Of each caption, in [0, 1], shape (captions,).
        right: Whether it is right, shape (captions,).
        bins: How many of equal width.
    """
    place = np.minimum((confidences * bins).astype(int), bins - 1)
    return [
        Bin(k / bins, (k + 1) / bins, int(here.sum()), float(confidences[here].mean()), float(right[here].mean()))
        for k in range(bins)
        if (here := place == k).any()
    ]


def expected_calibration_error(confidences: Floats, right: NDArray[np.bool_], bins: int = BINS) -> float:
    """Mean distance between confidence and share of right captions, over the bins, weighted by their captions.

    Args:
        confidences: Of each caption, in [0, 1], shape (captions,).
        right: Whether it is right, shape (captions,).
        bins: How many of equal width.

    Returns:
        The error in [0, 1]; NaN without a caption.
    """
    found = reliability(confidences, right, bins)
    if not found:
        return float("nan")
    return sum(each.captions * abs(each.confidence - each.right) for each in found) / len(confidences)


def calibration_error_by_chance(confidences: Floats, samples: int = 200, seed: int = 0, bins: int = BINS) -> float:
    """The expected calibration error that perfectly calibrated confidences would have, for there are so few captions.

    Args:
        confidences: Of each caption, in [0, 1], shape (captions,).
        samples: How often it is drawn whether each caption is right.
        seed: The same seed gives the same result.
        bins: How many of equal width.
    """
    drawn = np.random.default_rng(seed).random((samples, len(confidences))) < confidences
    return float(np.mean([expected_calibration_error(confidences, right, bins) for right in drawn]))


def threshold_keeping(confidences: Floats, share: float = KEPT) -> float:
    """The greatest threshold that keeps at least a share of the captions.

    Args:
        confidences: Of each caption, in [0, 1], shape (captions,), at least one.
        share: In (0, 1].
    """
    count = max(1, int(np.ceil(share * len(confidences) - 1e-9)))
    return float(np.sort(confidences)[-count])


def keep(naming: Naming, confidences: Floats, threshold: float) -> Kept:
    """What captions name that are at least so sure.

    Args:
        naming: Of all captions.
        confidences: Likewise, in the same order.
        threshold: Captions below are dropped.
    """
    kept = confidences >= threshold
    images = tuple(image for image, stays in zip(naming.images, kept, strict=True) if stays)
    shares = Naming(images).corpus()
    return Kept(threshold, len(images) / len(kept), shares["CHAIRi"], shares["CHAIRs"])


def risk_coverage(naming: Naming, confidences: Floats, coverages: Sequence[float] | Floats = _COVERAGES) -> list[Kept]:
    """What is left at thresholds that keep given shares of the captions.

    Args:
        naming: Of all captions.
        confidences: Likewise, in the same order.
        coverages: The shares.
    """
    return [keep(naming, confidences, threshold_keeping(confidences, float(share))) for share in coverages]


def are_right(naming: Naming) -> NDArray[np.bool_]:
    """Whether each caption names nothing that is not there."""
    return np.array([image.named <= image.present for image in naming.images], dtype=bool)
