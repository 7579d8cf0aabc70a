"""Beam search: every step extends each of an image's sentences by each word and keeps the best."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from captioner.decoding.drafts import Drafts, Extensions, Hypothesis, Written
from captioner.decoding.options import DecodingOptions
from captioner.decoding.ranking import rank
from captioner.vocabulary import PAD


class BeamSearch:
    """Plain beam search.

    A finished sentence stays in the beam, unchanged, as long as no better ones push it out.

    Args:
        options: Width of the beam and so on.

    Attributes:
        width: Sentences kept for each image.
        begun: Sentences that there are at the start: all begin alike, so that only the first may be extended.
        first: Where in the width the captions stand, the best first.
    """

    def __init__(self, options: DecodingOptions) -> None:
        self.options = options
        self.width = options.beam_size
        self.begun = [0]
        self.first = 0

    def choose(self, drafts: Drafts, log_probabilities: Tensor) -> Extensions:
        """The best extensions of each image, the best first.

        Args:
            drafts: The sentences.
            log_probabilities: Of their next words, -inf for what may not come, shape (images, width, vocabulary).
        """
        extensions = likeliest(log_probabilities, drafts.finished, self.width)
        ranks = rank_extensions(drafts, extensions, self.options)
        return extensions.gather(ranks.topk(self.width).indices)

    def done(self, drafts: Drafts) -> Tensor:
        """Which images are done, shape (images,): the captions wanted are finished and nothing better can come."""
        ranks = rank(drafts.scores, drafts.lengths, self.options)
        wanted = slice(self.first, self.first + self.options.num_captions)
        complete = drafts.finished[:, wanted] | drafts.scores[:, wanted].isneginf()
        # Scores only fall as a sentence grows, while a length penalty divides them by more: an open sentence can rank
        # no higher than its present score over the greatest length.
        hope = rank(drafts.scores, self.options.max_words, self.options).masked_fill(drafts.finished, -math.inf)
        # Not "at least as high": where a broken network tells NaN, that would never be.
        done: Tensor = complete.all(1) & ~(ranks[:, wanted.stop - 1] < hope.max(dim=1).values)
        return done

    def best(self, written: Written, row: int) -> list[Hypothesis]:
        """The captions of one image, the best first."""
        return written.hypotheses(row, range(self.first, self.first + self.options.num_captions))


def likeliest(log_probabilities: Tensor, finished: Tensor, count: int) -> Extensions:
    """The likeliest extensions of each sentence; a finished one has itself alone.

    Args:
        log_probabilities: Of the next words, shape (images, width, vocabulary).
        finished: Shape (images, width).
        count: Extensions of each sentence: as many as are kept of all together are enough.
    """
    _, width, vocabulary = log_probabilities.shape
    top, words = log_probabilities.topk(min(count, vocabulary))
    itself = torch.full_like(top[0, 0], -math.inf)
    itself[0] = 0
    top = torch.where(finished.unsqueeze(2), itself, top)
    words = words.masked_fill(finished.unsqueeze(2), PAD)
    parents = torch.arange(width, device=words.device).view(1, -1, 1).expand_as(words)
    return Extensions(parents.flatten(1), words.flatten(1), top.flatten(1))


def rank_extensions(drafts: Drafts, extensions: Extensions, options: DecodingOptions) -> Tensor:
    """What each extension would rank as a sentence, shape (images, extensions)."""
    lengths = drafts.lengths + ~drafts.finished
    scores = drafts.scores.gather(1, extensions.parents) + extensions.log_probabilities
    return rank(scores, lengths.gather(1, extensions.parents), options)
