"""Decoding with any model that has ``start`` and ``step``: beam search, sampling, and scoring of given captions.

Everything is batched over images and their hypotheses. Decoding sees token ids only: no CNN, file or vocabulary.
"""

from captioner.decoding.generate import decode
from captioner.decoding.hypotheses import Hypothesis
from captioner.decoding.options import DecodingOptions
from captioner.decoding.scoring import score_captions

__all__ = ["DecodingOptions", "Hypothesis", "decode", "score_captions"]
