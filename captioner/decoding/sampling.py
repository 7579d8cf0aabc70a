"""Drawing captions at random from the model's distribution."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from captioner.decoding.beam_search import rank
from captioner.decoding.hypotheses import BeamSnapshot, BeamState, Candidates, Hypothesis
from captioner.decoding.options import DecodingOptions
from captioner.text.vocabulary import PAD


class Sampling:
    """Independent sentences, word by word.

    The word with the greatest log-probability + Gumbel noise is a draw from the distribution (Gumbel, 1954). The noise
    is one for all images, and drawn on the CPU: so a picture's captions depend neither on the pictures beside it nor on
    the device, as they would if images took turns in one stream of random numbers.

    Args:
        options: Temperature and so on, and how many captions.
        device: Where the sentences are.
    """

    def __init__(self, options: DecodingOptions, device: torch.device) -> None:
        self.options = options
        self.device = device
        self.width = options.num_captions
        self.active = list(range(self.width))
        self.generator = torch.Generator().manual_seed(options.seed)

    def choose(self, state: BeamState, log_probabilities: Tensor) -> Candidates:
        """One word for each sentence.

        Args:
            state: The sentences.
            log_probabilities: Of their next words, -inf for what may not come, shape (images, width, vocabulary).
        """
        kept = filter_logits(log_probabilities / self.options.temperature, self.options.top_k, self.options.top_p)
        noise = -torch.empty(kept.shape[1:]).exponential_(generator=self.generator).log()
        tokens = (kept + noise.to(self.device)).argmax(2)
        chosen = log_probabilities.gather(2, tokens.unsqueeze(2)).squeeze(2)
        parents = torch.arange(self.width, device=self.device).expand_as(tokens)
        return Candidates(parents, tokens.masked_fill(state.finished, PAD), chosen.masked_fill(state.finished, 0))

    def done(self, state: BeamState) -> Tensor:
        """Which images have nothing but finished sentences, shape (images,)."""
        done: Tensor = (state.finished | state.scores.isneginf()).all(1)
        return done

    def best(self, snapshot: BeamSnapshot, row: int) -> list[Hypothesis]:
        """The captions of one image, the best first; independent draws may be equal."""
        ranks = rank(snapshot.scores[row], snapshot.lengths[row], self.options)
        return snapshot.hypotheses(row, ranks.argsort(descending=True, stable=True).tolist())


def filter_logits(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Logits with those of unlikely words at -inf.

    Args:
        logits: Shape (…, vocabulary).
        top_k: Only so many of the likeliest stay; 0 keeps all.
        top_p: Of these, only the fewest whose probabilities reach this sum stay.
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
