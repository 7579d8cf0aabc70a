"""Captions as JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

from captioner.caption import Caption

DIGITS = 6
"""Decimals of an attention weight."""


def describe(name: str, caption: Caption, count: int, maps: bool = False) -> dict[str, Any]:
    """Build the JSON object of one image, as printed by ``captioner caption --json``.

    Args:
        name: The image's name.
        caption: Its caption.
        count: Requested number of captions; if greater than one, all are listed.
        maps: Whether to include words, their log-probabilities and attention maps.
    """
    entry = {"image": name, **_describe(caption, maps)}
    if count > 1:
        entry["captions"] = [_describe(each, maps) for each in (caption, *caption.alternatives)]
    return entry


def _describe(caption: Caption, maps: bool) -> dict[str, Any]:
    entry = caption.facts()
    if maps:
        entry["words"] = list(caption.words)
        entry["word_log_probabilities"] = list(caption.word_log_probabilities)
        entry["attention"] = None if caption.attention is None else np.round(caption.attention, DIGITS).tolist()
        entry["region"] = list(caption.region)
        if caption.looking_away is not None:
            entry["looking_away"] = list(caption.looking_away)
    return entry
