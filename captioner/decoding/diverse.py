"""Diverse beam search (Vijayakumar et al., 2018)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from captioner.decoding.beam import BeamSearch, likeliest, rank_extensions
from captioner.decoding.drafts import Drafts, Extensions, Hypothesis, Written
from captioner.decoding.options import DecodingOptions
from captioner.decoding.ranking import rank
from captioner.vocabulary import PAD


class DiverseBeamSearch(BeamSearch):
    """Beam search in groups, one after the other at each step.

    A word that earlier groups have just chosen counts less (the paper's Hamming diversity): the comparison of this step
    alone is changed, never the sentence's log-probability.

    Args:
        options: Groups, penalty, and the width of all groups together.
    """

    def __init__(self, options: DecodingOptions) -> None:
        super().__init__(options)
        self.group = options.beam_size // options.diverse_groups
        self.begun = list(range(0, self.width, self.group))

    def choose(self, drafts: Drafts, log_probabilities: Tensor) -> Extensions:
        """The best extensions of each group of each image, in the order of the groups.

        Args:
            drafts: The sentences.
            log_probabilities: Of their next words, -inf for what may not come, shape (images, width, vocabulary).
        """
        vocabulary = log_probabilities.shape[2]
        used = torch.zeros_like(log_probabilities[:, 0])  # (images, vocabulary)
        chosen = []
        for begin in self.begun:
            group = slice(begin, begin + self.group)
            penalty = self.options.diversity_penalty * used
            extensions = likeliest(
                log_probabilities[:, group] - penalty.unsqueeze(1), drafts.finished[:, group], self.group
            )
            extensions = extensions._replace(parents=extensions.parents + begin)
            best, places = rank_extensions(drafts, extensions, self.options).topk(self.group)
            extensions = extensions.gather(places)
            own = log_probabilities.flatten(1).gather(1, extensions.parents * vocabulary + extensions.words)
            own = own.masked_fill(drafts.finished.gather(1, extensions.parents), 0)
            # A group with too few sentences is filled up with what cannot be, even a finished one once more.
            filling = best.isneginf()
            chosen.append(extensions._replace(log_probabilities=own.masked_fill(filling, -math.inf)))
            used.scatter_add_(1, extensions.words, (~filling).to(used.dtype))
            used[:, PAD] = 0
        return Extensions(*(torch.cat(parts, dim=1) for parts in zip(*chosen, strict=True)))

    def done(self, drafts: Drafts) -> Tensor:
        """Which images have nothing but finished sentences, shape (images,)."""
        done: Tensor = (drafts.finished | drafts.scores.isneginf()).all(1)
        return done

    def best(self, written: Written, row: int) -> list[Hypothesis]:
        """The captions of one image: first each group's best, then each one's second, equal ones once."""
        ranks = rank(written.scores[row], written.lengths[row], self.options).tolist()
        # In the beam they stand as the penalty of the last step had them.
        groups = [sorted(range(begin, begin + self.group), key=lambda place: -ranks[place]) for begin in self.begun]
        distinct: dict[tuple[int, ...], int] = {}
        for place in (group[depth] for depth in range(self.group) for group in groups):
            distinct.setdefault(tuple(written.words[row, place].tolist()), place)
        wanted = [place for place in distinct.values() if ranks[place] > -math.inf][: self.options.num_captions]
        return written.hypotheses(row, sorted(wanted, key=lambda place: -ranks[place]))
