"""Calibration and risk–coverage of confidences whose worth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from captioner.metrics.calibration import (
    are_right,
    calibration_error_by_chance,
    expected_calibration_error,
    keep,
    reliability,
    risk_coverage,
    threshold_keeping,
)
from captioner.metrics.naming import ImageNaming, Naming

DOG, CAT = frozenset({"dog"}), frozenset({"cat"})


def test_calibrated_confidences_have_no_more_error_than_chance_gives() -> None:
    chance = np.random.default_rng(0)
    sure = chance.random(50_000)
    right = chance.random(50_000) < sure
    error = expected_calibration_error(sure, right)
    assert error < 0.01
    assert error == pytest.approx(calibration_error_by_chance(sure, samples=20, seed=1), abs=0.003)


def test_overconfidence_is_the_error() -> None:
    chance = np.random.default_rng(0)
    sure = chance.uniform(0.5, 1, 20_000)
    right = chance.random(20_000) < sure - 0.25
    assert expected_calibration_error(sure, right) == pytest.approx(0.25, abs=0.01)


def test_the_error_is_the_mean_over_bins_by_brute_force() -> None:
    chance = np.random.default_rng(1)
    for _ in range(20):
        sure = chance.random(37).round(2)
        right = chance.random(37) < 0.5
        expected = 0.0
        for low in range(10):
            here = [k for k in range(37) if low <= 10 * sure[k] + 1e-12 < low + 1 or (low == 9 and sure[k] == 1)]
            if here:
                expected += abs(sum(sure[k] for k in here) - sum(right[k] for k in here)) / 37
        assert expected_calibration_error(sure, right) == pytest.approx(expected)


def test_bins_hold_every_caption_once() -> None:
    found = reliability(np.array([0.0, 0.1, 0.95, 1.0]), np.array([False, True, True, False]))
    assert [(each.low, each.captions) for each in found] == [(0, 1), (0.1, 1), (0.9, 2)]
    assert found[-1].confidence == pytest.approx(0.975)
    assert found[-1].right == 0.5


def test_no_caption_has_no_error() -> None:
    assert math.isnan(expected_calibration_error(np.array([]), np.array([], dtype=bool)))


@pytest.mark.parametrize(("share", "threshold"), [(1.0, 0.1), (0.8, 0.2), (0.75, 0.2), (0.2, 0.9), (0.01, 0.9)])
def test_a_threshold_keeps_at_least_the_share(share: float, threshold: float) -> None:
    sure = np.array([0.5, 0.1, 0.9, 0.3, 0.2])
    assert threshold_keeping(sure, share) == threshold
    assert np.mean(sure >= threshold) >= share


def test_captions_below_the_threshold_do_not_count() -> None:
    naming = Naming((ImageNaming(DOG, DOG, DOG), ImageNaming(CAT, DOG, DOG), ImageNaming(DOG | CAT, DOG, DOG)))
    sure = np.array([0.9, 0.2, 0.5])
    assert are_right(naming).tolist() == [True, False, False]
    assert keep(naming, sure, 0.0) == (0.0, 1.0, 2 / 4, 2 / 3)
    assert keep(naming, sure, 0.5) == (0.5, 2 / 3, 1 / 3, 1 / 2)
    assert keep(naming, sure, 0.6) == (0.6, 1 / 3, 0.0, 0.0)
    curve = risk_coverage(naming, sure, [1, 0.5, 0.3])
    assert [each.threshold for each in curve] == [0.2, 0.5, 0.9]
