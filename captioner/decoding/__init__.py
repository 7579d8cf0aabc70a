"""Writing captions over ``start`` and ``step`` of any decoder: beam search, sampling, scoring of given captions.

Everything is batched over images and their sentences, and knows word ids only: nothing of CNNs, files or vocabularies.
"""

from captioner.decoding.generate import decode
from captioner.decoding.hypotheses import Hypothesis
from captioner.decoding.options import DecodingOptions
from captioner.decoding.scoring import score_captions

__all__ = ["DecodingOptions", "Hypothesis", "decode", "score_captions"]
