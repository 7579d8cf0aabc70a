"""Fit a captioner's confidence to photographs with references and to other images, such as drawings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captioner.errors import CaptionerError
from captioner.metrics.calibration import (
    KEPT,
    calibration_error_by_chance,
    expected_calibration_error,
    threshold_keeping,
)
from captioner.metrics.grounding import named_categories
from captioner.metrics.naming import categories_named
from captioner.metrics.ngrams import Floats
from captioner.models.caption_features import FEATURES
from captioner.models.confidence import Confidence, Evidence
from captioner.pipeline import Captioner
from captioner.text.vocabulary import Vocabulary

FEWEST = 50
"""Minimum numbers of photographs and of other images for a fit."""

_FOLDS = 5
_PENALTIES = (10.0, 30.0, 100.0, 300.0, 1000.0)
"""Candidate ridge penalties on the mean feature vector's weights; chosen by cross-validation."""
_PHOTOGRAPH_PENALTY = 1.0
_FEATURE_PENALTY = 1.0


class Fit(NamedTuple):
    """A logistic regression: P(true | x) = σ(weights · x + bias).

    Attributes:
        weights: Shape (features,).
        bias: The log-odds at x = 0.
    """

    weights: Floats
    bias: float

    def predict(self, x: Floats) -> Floats:
        """Predict probabilities for x, shape (examples, features)."""
        probabilities: Floats = torch.from_numpy(x @ self.weights + self.bias).sigmoid().numpy()
        return probabilities


@dataclass(frozen=True)
class Photograph:
    """A photograph's caption with its correctness label.

    Attributes:
        evidence: Inputs of its confidence.
        right: Whether every object that it names is in a reference.
        seen: Probability that a correct caption is labeled correct; below 1 with few references.
    """

    evidence: Evidence
    right: bool
    seen: float = 1.0


class Report(NamedTuple):
    """Quality of a confidence on held-out images (five-fold cross-validation).

    Attributes:
        error: Expected calibration error on photographs whose references are assumed complete.
        by_chance: Its expected value for perfectly calibrated confidences and this number of photographs.
        threshold: Confidence reached by 80 % of the photographs.
        passed: Share of the other images that reach it, too.
        right: Share of photograph captions that are labeled correct.
        kept_right: The same among captions that reach the threshold.
    """

    error: float
    by_chance: float
    threshold: float
    passed: float
    right: float
    kept_right: float


def fit_logistic(
    x: Floats,
    true: NDArray[np.bool_],
    penalty: float | Floats,
    weights: Floats | None = None,
    seen: Floats | None = None,
) -> Fit:
    """Fit a logistic regression with a ridge penalty, by L-BFGS from zero; deterministic.

    Args:
        x: The examples, shape (examples, features). Features are standardized before they are penalized; a constant one
            gets weight 0.
        true: The labels, shape (examples,).
        penalty: Half the weight of the squared coefficients, one for all or one per feature, relative to the summed
            log-loss.
        weights: Weight of each example; 1 by default.
        seen: Probability that a positive example is labeled positive, shape (examples,); 1 by default. Corrects for
            missing labels (Elkan and Noto, KDD 2008).
    """
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    constant = deviation < 1e-9 * (1 + np.abs(mean))
    scale = np.where(constant, 0, 1 / np.where(constant, 1, deviation))
    scaled = torch.from_numpy((x - mean) * scale)
    target = torch.from_numpy(true.astype(np.float64))
    ridge = torch.from_numpy(np.broadcast_to(np.asarray(penalty, float), mean.shape).copy())
    counts = torch.from_numpy(np.ones(len(x)) if weights is None else weights)
    shown = torch.from_numpy(np.ones(len(x)) if seen is None else seen).log()
    found = torch.zeros(x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [found], max_iter=500, tolerance_grad=1e-7, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        marked = torch.nn.functional.logsigmoid(scaled @ found[:-1] + found[-1]) + shown
        # log(1 - P), stable for P near 1.
        unmarked = torch.log(-torch.expm1(marked.clamp(max=-1e-12)))
        losses = -(target * marked + (1 - target) * unmarked)
        total = (counts * losses).sum() + (ridge * found[:-1].square()).sum() / 2
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    coefficients = found.detach().numpy()
    own = coefficients[:-1] * scale
    return Fit(own, float(coefficients[-1] - own @ mean))


def things_of(vocabulary: Vocabulary) -> Tensor:
    """For each word, 1 + the index of the COCO category that it names alone, else 0; uint8."""
    numbers: dict[str, int] = {}
    things = torch.zeros(len(vocabulary), dtype=torch.uint8)
    for id_, word in enumerate(vocabulary.words):
        for _, category in named_categories([word]):
            things[id_] = numbers.setdefault(category, len(numbers) + 1)
    return things


def with_confidence(captioner: Captioner) -> Captioner:
    """Return the captioner with an unfitted confidence, replacing any other.

    An ensemble stores it in its first member.
    """
    vocabulary = captioner.vocabulary
    if vocabulary.tokenizer is not None:
        raise CaptionerError("confidence is judged by English words; calibrate a model with data.tokenizer english")
    for member in captioner.members:
        first = member is captioner.model
        member.config = replace(member.config, confidence=first)
        member.confidence = Confidence(member.encoder.channels, len(vocabulary)) if first else None
    confidence = captioner.model.confidence
    assert confidence is not None
    confidence.things.copy_(things_of(vocabulary))
    confidence.networks.fill_(len(captioner.members))
    captioner.model.to(captioner.device)
    return captioner


def judge(
    captions: Sequence[str], references: Sequence[Sequence[str]], evidence: Sequence[Evidence]
) -> list[Photograph]:
    """Label captions by their references.

    Captions that several references together confirm are used to estimate how often a single reference would confirm
    them, which is the label frequency of images with one reference. If no image has several, it is 1.

    Args:
        captions: One per photograph.
        references: References of each photograph, at least one.
        evidence: Evidence of each photograph.
    """
    named = [categories_named(caption) for caption in captions]
    present = [[categories_named(text) for text in texts] for texts in references]
    right = [things <= frozenset().union(*each) for things, each in zip(named, present, strict=True)]
    alone = [
        things <= one
        for things, each, known in zip(named, present, right, strict=True)
        if known and len(each) > 1
        for one in each
    ]
    seen = max(sum(alone), 1) / max(len(alone), 1)
    return [
        Photograph(item, known, seen if len(each) == 1 else 1.0)
        for item, known, each in zip(evidence, right, present, strict=True)
    ]


def calibrate(confidence: Confidence, photographs: Sequence[Photograph], others: Sequence[Evidence]) -> Report:
    """Fit a confidence.

    Args:
        confidence: The confidence, changed in place.
        photographs: Labeled captions of photographs.
        others: Evidence of other images.

    Returns:
        Its cross-validated quality.

    Raises:
        CaptionerError: There are too few examples.
    """
    for found, what in ((photographs, "photographs"), (others, "pictures that are no photographs")):
        if len(found) < FEWEST:
            raise CaptionerError(f"there are {len(found)} {what} to calibrate with; give at least {FEWEST}")
    right = np.array([each.right for each in photographs])
    if right.all() or not right.any():
        raise CaptionerError(
            f"{'all' if right.all() else 'none'} of the {len(right)} captions are right by their references; there is "
            "nothing to tell apart, give other photographs"
        )
    seen = np.array([each.seen for each in photographs])
    taken, not_taken = _examples([each.evidence for each in photographs]), _examples(others)
    fold, other_fold = (np.arange(len(each)) % _FOLDS for each in (taken, not_taken))
    penalty = min(_PENALTIES, key=lambda each: _loss_elsewhere(taken, right, seen, fold, each))
    sure, other_sure = np.zeros(len(taken)), np.zeros(len(not_taken))
    for left_out in range(_FOLDS):
        here, there = fold == left_out, other_fold == left_out
        pair = (
            _fit_photograph(taken[~here], not_taken[~there]),
            _fit_right(taken[~here], right[~here], seen[~here], penalty),
        )
        sure[here], other_sure[there] = _confidences(taken[here], *pair), _confidences(not_taken[there], *pair)
    _set(confidence, _fit_photograph(taken, not_taken), _fit_right(taken, right, seen, penalty))
    whole, threshold = seen == 1, threshold_keeping(sure)
    whole = whole if whole.any() else np.ones_like(whole)
    return Report(
        expected_calibration_error(sure[whole], right[whole]),
        calibration_error_by_chance(sure[whole]),
        threshold,
        float(np.mean(other_sure >= threshold)),
        float(right.mean()),
        float(right[sure >= threshold].mean()),
    )


def describe(report: Report, photographs: int, others: int) -> Mapping[str, float]:
    """Format the calibration for the model card."""
    return {
        "photographs": photographs,
        "other pictures": others,
        "calibration error": round(report.error, 4),
        f"threshold that keeps {KEPT:.0%}": round(report.threshold, 4),
    }


def _examples(evidence: Sequence[Evidence]) -> Floats:
    """Mean feature vector and `FEATURES` of each first caption, shape (examples, channels + features)."""
    rows: Floats = (
        torch.stack([torch.cat([each.picture, each.captions[0]]) for each in evidence]).double().cpu().numpy()
    )
    return rows


def _fit_photograph(taken: Floats, not_taken: Floats) -> Fit:
    """Fit photographs against other images, with equal total weight."""
    x = np.concatenate([taken, not_taken])[:, : -len(FEATURES)]
    true = np.arange(len(x)) < len(taken)
    weights = np.where(true, len(x) / (2 * len(taken)), len(x) / (2 * len(not_taken)))
    return fit_logistic(x, true, _PHOTOGRAPH_PENALTY, weights)


def _fit_right(x: Floats, right: NDArray[np.bool_], seen: Floats, penalty: float) -> Fit:
    channels = x.shape[1] - len(FEATURES)
    ridge = np.repeat([penalty, _FEATURE_PENALTY], [channels, len(FEATURES)])
    return fit_logistic(x, right, ridge, seen=seen)


def _loss_elsewhere(x: Floats, right: NDArray[np.bool_], seen: Floats, fold: NDArray[np.int_], penalty: float) -> float:
    """Cross-validated log-loss."""
    marked = np.zeros(len(x))
    for left_out in range(_FOLDS):
        here = fold == left_out
        marked[here] = _fit_right(x[~here], right[~here], seen[~here], penalty).predict(x[here]) * seen[here]
    marked = marked.clip(1e-9, 1 - 1e-9)
    return float(-np.log(np.where(right, marked, 1 - marked)).mean())


def _confidences(x: Floats, photograph: Fit, right: Fit) -> Floats:
    product: Floats = photograph.predict(x[:, : -len(FEATURES)]) * right.predict(x)
    return product


def _set(confidence: Confidence, photograph: Fit, right: Fit) -> None:
    confidence.photograph.copy_(torch.from_numpy(photograph.weights))
    confidence.photograph_bias.fill_(photograph.bias)
    confidence.right.copy_(torch.from_numpy(right.weights))
    confidence.right_bias.fill_(right.bias)
