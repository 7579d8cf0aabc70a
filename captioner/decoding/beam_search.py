"""Beam search: plain, diverse, and with required words."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from captioner.decoding.constraints import Constraints
from captioner.decoding.hypotheses import BeamSnapshot, BeamState, Candidates, Hypothesis
from captioner.decoding.options import DecodingOptions
from captioner.decoding.rules import TokenRules, choose_required
from captioner.text.vocabulary import PAD


def rank(scores: Tensor, lengths: Tensor | float, options: DecodingOptions) -> Tensor:
    """Normalize log-probabilities by length, as the options say.

    Args:
        scores: Log-probabilities of hypotheses.
        lengths: Their numbers of tokens, prompt and END included; broadcast to the shape of ``scores``.
        options: The normalization and its exponent, and the prompt, whose tokens do not count.
    """
    lengths = lengths - len(options.prompt)
    if options.length_normalization == "gnmt":
        lengths = (5 + lengths) / 6
    return scores / lengths**options.length_penalty


class BeamSearch:
    """Plain beam search.

    A finished hypothesis stays in the beam, unchanged, until better ones push it out.

    Args:
        options: Beam size and other decoding options.

    Attributes:
        width: Hypotheses kept for each image.
        active: Indices of the hypotheses that are active at the start: since all begin alike, only the first is.
        first: Index within the width at which the captions begin, the best first.
    """

    def __init__(self, options: DecodingOptions) -> None:
        self.options = options
        self.width = options.beam_size
        self.active = [0]
        self.first = 0

    def choose(self, state: BeamState, log_probabilities: Tensor) -> Candidates:
        """Select the best candidates of each image, the best first.

        Args:
            state: The hypotheses.
            log_probabilities: Of their next tokens, -inf for what is ruled out, shape (images, width, vocabulary).
        """
        candidates = top_candidates(log_probabilities, state.finished, self.width)
        ranks = rank_candidates(state, candidates, self.options)
        return candidates.gather(ranks.topk(self.width).indices)

    def done(self, state: BeamState) -> Tensor:
        """Mask of the images whose requested captions are finished and cannot be beaten, shape (images,)."""
        ranks = rank(state.scores, state.lengths, self.options)
        wanted = slice(self.first, self.first + self.options.num_captions)
        complete = state.finished[:, wanted] | state.scores[:, wanted].isneginf()
        # Scores only fall as a hypothesis grows, while the length penalty divides them by more: an unfinished one can
        # rank no higher than its present score over the greatest length.
        bound = rank(state.scores, self.options.max_words, self.options).masked_fill(state.finished, -math.inf)
        # Not "at least as high": with NaN from a broken network, that would never become true.
        done: Tensor = complete.all(1) & ~(ranks[:, wanted.stop - 1] < bound.max(dim=1).values)
        return done

    def best(self, snapshot: BeamSnapshot, row: int) -> list[Hypothesis]:
        """The captions of one image, the best first."""
        return snapshot.hypotheses(row, range(self.first, self.first + self.options.num_captions))


def top_candidates(log_probabilities: Tensor, finished: Tensor, count: int) -> Candidates:
    """Most likely candidates of each hypothesis; a finished one is its own only candidate.

    Args:
        log_probabilities: Of the next tokens, shape (images, width, vocabulary).
        finished: Mask of the finished hypotheses, shape (images, width).
        count: Candidates per hypothesis; the number kept per image is always enough.
    """
    _, width, vocabulary = log_probabilities.shape
    top, tokens = log_probabilities.topk(min(count, vocabulary))
    itself = torch.full_like(top[0, 0], -math.inf)
    itself[0] = 0
    top = torch.where(finished.unsqueeze(2), itself, top)
    tokens = tokens.masked_fill(finished.unsqueeze(2), PAD)
    parents = torch.arange(width, device=tokens.device).view(1, -1, 1).expand_as(tokens)
    return Candidates(parents.flatten(1), tokens.flatten(1), top.flatten(1))


def rank_candidates(state: BeamState, candidates: Candidates, options: DecodingOptions) -> Tensor:
    """Length-normalized score of each candidate, shape (images, candidates)."""
    lengths = state.lengths + ~state.finished
    scores = state.scores.gather(1, candidates.parents) + candidates.log_probabilities
    return rank(scores, lengths.gather(1, candidates.parents), options)


class DiverseBeamSearch(BeamSearch):
    """Beam search in groups that take turns at each step (Vijayakumar et al., 2018).

    A token that earlier groups have chosen at this step is penalized (the paper's Hamming diversity). The penalty
    changes the comparison at this step only, never the log-probability of a hypothesis.

    Args:
        options: Number of groups, penalty, and the total beam size.
    """

    def __init__(self, options: DecodingOptions) -> None:
        super().__init__(options)
        self.group = options.beam_size // options.diverse_groups
        self.active = list(range(0, self.width, self.group))

    def choose(self, state: BeamState, log_probabilities: Tensor) -> Candidates:
        """Select the best candidates of each group of each image, in the order of the groups.

        Args:
            state: The hypotheses.
            log_probabilities: Of their next tokens, -inf for what is ruled out, shape (images, width, vocabulary).
        """
        vocabulary = log_probabilities.shape[2]
        used = torch.zeros_like(log_probabilities[:, 0])  # (images, vocabulary)
        chosen = []
        for begin in self.active:
            group = slice(begin, begin + self.group)
            penalty = self.options.diversity_penalty * used
            candidates = top_candidates(
                log_probabilities[:, group] - penalty.unsqueeze(1), state.finished[:, group], self.group
            )
            candidates = candidates._replace(parents=candidates.parents + begin)
            best, indices = rank_candidates(state, candidates, self.options).topk(self.group)
            candidates = candidates.gather(indices)
            own = log_probabilities.flatten(1).gather(1, candidates.parents * vocabulary + candidates.tokens)
            own = own.masked_fill(state.finished.gather(1, candidates.parents), 0)
            # A group with too few candidates is filled up with impossible ones, even a finished one once more.
            filling = best.isneginf()
            chosen.append(candidates._replace(log_probabilities=own.masked_fill(filling, -math.inf)))
            used.scatter_add_(1, candidates.tokens, (~filling).to(used.dtype))
            used[:, PAD] = 0
        return Candidates(*(torch.cat(parts, dim=1) for parts in zip(*chosen, strict=True)))

    def done(self, state: BeamState) -> Tensor:
        """Mask of the images all of whose hypotheses are finished, shape (images,)."""
        done: Tensor = (state.finished | state.scores.isneginf()).all(1)
        return done

    def best(self, snapshot: BeamSnapshot, row: int) -> list[Hypothesis]:
        """Captions of one image: each group's best, then each group's second best; duplicates once."""
        ranks = rank(snapshot.scores[row], snapshot.lengths[row], self.options).tolist()
        # In the beam they are in the order that the last step's penalty gave them.
        groups = [sorted(range(begin, begin + self.group), key=lambda index: -ranks[index]) for begin in self.active]
        distinct: dict[tuple[int, ...], int] = {}
        for index in (group[depth] for depth in range(self.group) for group in groups):
            distinct.setdefault(tuple(snapshot.tokens[row, index].tolist()), index)
        wanted = [index for index in distinct.values() if ranks[index] > -math.inf][: self.options.num_captions]
        return snapshot.hypotheses(row, sorted(wanted, key=lambda index: -ranks[index]))


class RequiredWordsSearch(BeamSearch):
    """Beam search with one beam for each number of required words written so far (Hokamp and Liu, 2017).

    A hypothesis competes only with those that contain equally many required words, so that likelier hypotheses
    without them do not push it out. The last beam, whose hypotheses contain all of them, holds the captions.

    Args:
        options: Size of each beam and other decoding options.
        constraints: Holds the required words, and rules out tokens that leave no room for them.
    """

    def __init__(self, options: DecodingOptions, constraints: Constraints) -> None:
        super().__init__(options)
        self.constraints = constraints
        self.beams = len(constraints.required) + 1
        self.width = self.beams * options.beam_size
        self.first = self.width - options.beam_size

    def choose(self, state: BeamState, log_probabilities: Tensor) -> Candidates:
        """Select the best candidates of each beam: from the beam itself, or by a required word from the one before.

        Args:
            state: The hypotheses.
            log_probabilities: Of their next tokens, -inf for what is ruled out, shape (images, width, vocabulary).
        """
        beam, required = self.options.beam_size, self.constraints.required
        missing = self.constraints.missing(state.tokens)
        said = log_probabilities[:, :, required]
        log_probabilities[:, :, required] = said.masked_fill(missing, -math.inf)
        staying = top_candidates(log_probabilities, state.finished, beam)
        parents = torch.arange(self.width, device=required.device).view(1, -1, 1).expand_as(said)
        rising = Candidates(
            parents.flatten(1),
            required.expand_as(said).flatten(1),
            said.masked_fill(~missing, -math.inf).flatten(1),
        )
        candidates = Candidates(*(torch.cat(pair, dim=1) for pair in zip(staying, rising, strict=True)))
        target = torch.cat([staying.parents // beam, rising.parents // beam + 1], dim=1)
        elsewhere = target.unsqueeze(1) != torch.arange(self.beams, device=target.device).view(1, -1, 1)
        ranks = rank_candidates(state, candidates, self.options).unsqueeze(1).masked_fill(elsewhere, -math.inf)
        best, indices = (each.flatten(1) for each in ranks.topk(beam))  # (images, width)
        chosen = candidates.gather(indices)
        # A beam with too few candidates is filled up with those of other beams.
        return chosen._replace(log_probabilities=chosen.log_probabilities.masked_fill(best.isneginf(), -math.inf))


class RequiredPiecesSearch(BeamSearch):
    """As `RequiredWordsSearch`, for required words of several tokens: one beam for each number of their tokens.

    Args:
        options: Size of each beam and other decoding options.
        rules: Hold the required words.
    """

    def __init__(self, options: DecodingOptions, rules: TokenRules) -> None:
        super().__init__(options)
        self.rules = rules
        self.width = (rules.required + 1) * options.beam_size
        self.first = self.width - options.beam_size

    def choose(self, state: BeamState, log_probabilities: Tensor) -> Candidates:
        """Select the best candidates of each beam.

        Args:
            state: The hypotheses.
            log_probabilities: Of their next tokens, -inf for what is ruled out, shape (images, width, vocabulary).
        """
        itself = torch.full_like(log_probabilities[0, 0], -math.inf)
        itself[PAD] = 0
        values = torch.where(state.finished.unsqueeze(2), itself, log_probabilities)
        lengths = (state.lengths + ~state.finished).unsqueeze(2)
        ranks = rank(state.scores.unsqueeze(2) + values, lengths, self.options)
        held = (each.cpu().numpy() for each in (state.tokens, ranks, values))
        chosen = choose_required(self.rules, self.options.beam_size, *held)
        return Candidates(*(torch.from_numpy(each).to(log_probabilities.device) for each in chosen))
