"""Sampling of captions from the model's distribution."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from captioner.decoding.beam_search import rank
from captioner.decoding.hypotheses import BeamSnapshot, BeamState, Candidates, Hypothesis
from captioner.decoding.options import DecodingOptions
from captioner.text.vocabulary import PAD


class Sampling:
    """Independent sampling, token by token.

    The token with the greatest log-probability plus Gumbel noise is a sample of the distribution (Gumbel, 1954). All
    images share the noise, which is drawn on the CPU: so the captions of an image depend neither on the rest of the
    batch nor on the device, as they would if images took turns in one stream of random numbers.

    Args:
        options: Number of captions, temperature and other decoding options.
        device: Device of the hypotheses.
    """

    def __init__(self, options: DecodingOptions, device: torch.device) -> None:
        self.options = options
        self.device = device
        self.width = options.num_captions
        self.active = list(range(self.width))
        self.generator = torch.Generator().manual_seed(options.seed)

    def choose(self, state: BeamState, log_probabilities: Tensor) -> Candidates:
        """Sample one token for each hypothesis.

        Args:
            state: The hypotheses.
            log_probabilities: Of their next tokens, -inf for what is ruled out, shape (images, width, vocabulary).
        """
        kept = filter_logits(log_probabilities / self.options.temperature, self.options.top_k, self.options.top_p)
        noise = -torch.empty(kept.shape[1:]).exponential_(generator=self.generator).log()
        tokens = (kept + noise.to(self.device)).argmax(2)
        chosen = log_probabilities.gather(2, tokens.unsqueeze(2)).squeeze(2)
        parents = torch.arange(self.width, device=self.device).expand_as(tokens)
        return Candidates(parents, tokens.masked_fill(state.finished, PAD), chosen.masked_fill(state.finished, 0))

    def done(self, state: BeamState) -> Tensor:
        """Mask of the images all of whose hypotheses are finished, shape (images,)."""
        done: Tensor = (state.finished | state.scores.isneginf()).all(1)
        return done

    def best(self, snapshot: BeamSnapshot, row: int) -> list[Hypothesis]:
        """Captions of one image, the most likely first; independent samples may be equal."""
        ranks = rank(snapshot.scores[row], snapshot.lengths[row], self.options)
        return snapshot.hypotheses(row, ranks.argsort(descending=True, stable=True).tolist())


def filter_logits(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Set the logits of unlikely tokens to -inf.

    Args:
        logits: Logits or log-probabilities, shape (…, vocabulary).
        top_k: Number of most likely tokens to keep; 0 keeps all.
        top_p: Probability mass of the smallest set of these to keep.
    """
    if 0 < top_k < logits.shape[-1]:
        kept = logits.topk(top_k)
        logits = torch.full_like(logits, -math.inf).scatter(-1, kept.indices, kept.values)
    if top_p < 1:
        ordered = logits.sort(dim=-1, descending=True, stable=True)
        share = ordered.values.softmax(-1)
        before = share.cumsum(-1) - share
        logits = logits.scatter(-1, ordered.indices, ordered.values.masked_fill(before >= top_p, -math.inf))
    return logits
