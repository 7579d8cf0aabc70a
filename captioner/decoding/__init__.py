"""Decoding with any model that has ``start`` and ``step``: beam search, sampling, and scoring of given captions.

Everything is batched over images and their hypotheses. Decoding sees token ids only: no CNN, file or vocabulary.
Names are imported when first used: the options alone need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from captioner.utils.lazy_names import from_home

if TYPE_CHECKING:
    from captioner.decoding.generate import decode
    from captioner.decoding.hypotheses import Hypothesis
    from captioner.decoding.options import DecodingOptions
    from captioner.decoding.scoring import score_captions

__all__ = ["DecodingOptions", "Hypothesis", "decode", "score_captions"]

_HOME = {
    "DecodingOptions": "captioner.decoding.options",
    "Hypothesis": "captioner.decoding.hypotheses",
    "decode": "captioner.decoding.generate",
    "score_captions": "captioner.decoding.scoring",
}

__getattr__ = from_home(__name__, _HOME)
