"""Constrained beam search: captions that have the words they must have."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from captioner.decoding.beam import BeamSearch, likeliest, rank_extensions
from captioner.decoding.constraints import Constraints
from captioner.decoding.drafts import Drafts, Extensions
from captioner.decoding.options import DecodingOptions


class RequiredWordsSearch(BeamSearch):
    """Beam search with a beam for each number of required words said so far (Hokamp and Liu, 2017).

    A sentence competes only with those that have said as many of the required words, so that likelier ones which put
    them off do not push it out. The last beam, whose sentences have said them all, holds the captions.

    Args:
        options: Width of each beam and so on.
        constraints: Knows the required words, and rules out what leaves no room for them.
    """

    def __init__(self, options: DecodingOptions, constraints: Constraints) -> None:
        super().__init__(options)
        self.constraints = constraints
        self.beams = len(constraints.required) + 1
        self.width = self.beams * options.beam_size
        self.first = self.width - options.beam_size

    def choose(self, drafts: Drafts, log_probabilities: Tensor) -> Extensions:
        """The best extensions for each beam of each image: from the beam itself, or by a required word from the last.

        Args:
            drafts: The sentences.
            log_probabilities: Of their next words, -inf for what may not come, shape (images, width, vocabulary).
        """
        beam, required = self.options.beam_size, self.constraints.required
        missing = self.constraints.missing(drafts.words)
        said = log_probabilities[:, :, required]
        log_probabilities[:, :, required] = said.masked_fill(missing, -math.inf)
        staying = likeliest(log_probabilities, drafts.finished, beam)
        parents = torch.arange(self.width, device=required.device).view(1, -1, 1).expand_as(said)
        rising = Extensions(
            parents.flatten(1),
            required.expand_as(said).flatten(1),
            said.masked_fill(~missing, -math.inf).flatten(1),
        )
        extensions = Extensions(*(torch.cat(pair, dim=1) for pair in zip(staying, rising, strict=True)))
        target = torch.cat([staying.parents // beam, rising.parents // beam + 1], dim=1)
        elsewhere = target.unsqueeze(1) != torch.arange(self.beams, device=target.device).view(1, -1, 1)
        ranks = rank_extensions(drafts, extensions, self.options).unsqueeze(1).masked_fill(elsewhere, -math.inf)
        best, places = (each.flatten(1) for each in ranks.topk(beam))  # (images, width)
        chosen = extensions.gather(places)
        # A beam with too few sentences is filled up with what belongs elsewhere.
        return chosen._replace(log_probabilities=chosen.log_probabilities.masked_fill(best.isneginf(), -math.inf))
