"""The confidence in captions, as `captioner.models.confidence` computes it, on what the encoder's graph tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from captioner.models.caption_features import caption_features, suggest
from captioner.runtime.description import FittedConfidence
from captioner.runtime.hypotheses import Hypothesis
from captioner.runtime.names import CONCEPT_LOG_ODDS, PHOTOGRAPH_LOG_ODDS, RIGHT_LOG_ODDS


def tell_confidences(
    fitted: FittedConfidence, outputs: Mapping[str, np.ndarray], hypotheses: Sequence[Sequence[Hypothesis]]
) -> list[list[float]]:
    """The confidence in each caption of each image, in [0, 1].

    Args:
        fitted: What the description says of it.
        outputs: The encoder's `CONFIDENCE`, of all images.
        hypotheses: The captions of each image.
    """
    confidences = []
    for image, captions in enumerate(hypotheses):
        concepts = suggest(fitted.concepts, outputs[CONCEPT_LOG_ODDS][image].tolist(), fitted.things)
        features = [caption_features(c.words, c.log_probabilities, fitted.things, concepts) for c in captions]
        right = np.array(features) @ np.array(fitted.weights) + outputs[RIGHT_LOG_ODDS][image]
        confidences.append((_sigmoid(outputs[PHOTOGRAPH_LOG_ODDS][image]) * _sigmoid(right)).tolist())
    return confidences


def _sigmoid(log_odds: np.ndarray) -> np.ndarray:
    probability: np.ndarray = (1 + np.tanh(log_odds / 2)) / 2  # exp would overflow
    return probability
