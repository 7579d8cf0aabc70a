"""Decoding on numpy's arrays, as `captioner.decoding` does it on tensors.

The rules are the same: how hypotheses of different length compare, when an image is done, what beats what. Only random
draws differ, since they come from another generator.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from captioner.decoding.options import DecodingOptions
from captioner.decoding.rules import TokenRules, choose_required
from captioner.errors import CaptionerError
from captioner.runtime.arrays import greatest, softmax
from captioner.runtime.constraints import Constraints
from captioner.runtime.graphs import State
from captioner.runtime.hypotheses import Beams, Candidates, DecoderGraph, Hypothesis
from captioner.text.vocabulary import PAD

HYPOTHESES_AT_ONCE = 80
"""Hypotheses written together: more make products no faster, and leave the cache."""


class Method(Protocol):
    """How words are chosen.

    Attributes:
        width: Hypotheses kept for each image.
        active: Which of them there are at the start.
    """

    width: int
    active: list[int]

    def choose(self, beams: Beams, log_probabilities: np.ndarray) -> Candidates:
        """The next hypotheses of each image, ``width`` of them."""

    def done(self, beams: Beams) -> np.ndarray:
        """Which images are done, shape (images,)."""

    def best(self, beams: Beams, image: int) -> list[Hypothesis]:
        """The captions of one image, the best first."""


def decode(
    decoder: DecoderGraph, state: State, options: DecodingOptions, rules: TokenRules | None = None
) -> list[list[Hypothesis]]:
    """Generate captions for a batch of images.

    Args:
        decoder: The decoder.
        state: Of the images before any word.
        options: How captions are written; its words are ids.
        rules: Rules by whole words, for tokens that are parts of them.

    Returns:
        For each image its captions, the best first.

    Raises:
        CaptionerError: No caption meets the options.
    """
    constraints = Constraints(options, rules)
    images = len(next(iter(state.values())))
    results: list[list[Hypothesis]] = []
    while len(results) < images:
        method = _method(options, constraints)
        few = slice(len(results), len(results) + max(1, HYPOTHESES_AT_ONCE // method.width))
        results += _decode(decoder, {name: part[few] for name, part in state.items()}, method, constraints)
    return results


def _method(options: DecodingOptions, constraints: Constraints) -> Method:
    if options.sample:
        return Sampling(options)
    if len(constraints.required):
        return RequiredWordsSearch(options, constraints)
    if constraints.rules is not None and constraints.rules.required:
        return RequiredPiecesSearch(options, constraints.rules)
    return DiverseBeamSearch(options) if options.diverse_groups > 1 else BeamSearch(options)


def _decode(decoder: DecoderGraph, state: State, method: Method, constraints: Constraints) -> list[list[Hypothesis]]:
    beams = Beams(decoder, state, method.width, method.active)
    results: list[list[Hypothesis]] = [[] for _ in beams.images]
    prompt, max_words = constraints.options.prompt_ids, constraints.options.max_words
    for word in prompt:
        beams.force(word)
    for words in range(len(prompt) + 1, max_words + 1):
        log_probabilities = beams.step()
        constraints.apply(log_probabilities, beams.words)
        beams.extend(method.choose(beams, log_probabilities))
        done = method.done(beams) | (words == max_words)
        for row in np.flatnonzero(done).tolist():
            results[beams.images[row]] = method.best(beams, row)
        if done.any():
            beams.keep(np.flatnonzero(~done))
        if not len(beams.images):
            break
    if not all(results):
        most = max_words if constraints.rules is None else constraints.rules.max_words
        raise CaptionerError(
            f"no caption of at most {most} words meets the options; raise max words, or forbid or require less"
        )
    return results


def rank(scores: np.ndarray, lengths: np.ndarray | float, options: DecodingOptions) -> np.ndarray:
    """Log-probabilities, normalized by length as the options say.

    Args:
        scores: Of hypotheses.
        lengths: Their words, prompt and END included.
        options: Which normalization, its exponent, and the prompt, whose words do not count.
    """
    lengths = lengths - len(options.prompt)
    if options.length_normalization == "gnmt":
        lengths = (5 + lengths) / 6
    ranks: np.ndarray = scores / lengths**options.length_penalty
    return ranks


def top_candidates(log_probabilities: np.ndarray, finished: np.ndarray, count: int) -> Candidates:
    """The likeliest extensions of each hypothesis; a finished one has itself alone.

    Args:
        log_probabilities: Of the next words, shape (images, width, vocabulary).
        finished: Shape (images, width).
        count: Extensions of each hypothesis.
    """
    images, width, vocabulary = log_probabilities.shape
    values, words = greatest(log_probabilities, min(count, vocabulary))
    values[finished] = -np.inf
    values[finished, 0] = 0
    words[finished] = PAD
    parents = np.broadcast_to(np.arange(width)[None, :, None], words.shape)
    return Candidates(*(each.reshape(images, -1) for each in (parents, words, values)))


def rank_candidates(beams: Beams, candidates: Candidates, options: DecodingOptions) -> np.ndarray:
    """What each candidate would rank as a hypothesis, shape (images, candidates)."""
    lengths = beams.lengths + ~beams.finished
    scores = np.take_along_axis(beams.scores, candidates.parents, 1) + candidates.log_probabilities
    return rank(scores, np.take_along_axis(lengths, candidates.parents, 1), options)


class BeamSearch:
    """Plain beam search: a finished caption stays in the beam as long as no better ones push it out.

    Args:
        options: Width of the beam and so on.
    """

    def __init__(self, options: DecodingOptions) -> None:
        self.options = options
        self.width = options.beam_size
        self.active = [0]
        self.first = 0

    def choose(self, beams: Beams, log_probabilities: np.ndarray) -> Candidates:
        """The best extensions of each image, the best first."""
        candidates = top_candidates(log_probabilities, beams.finished, self.width)
        return candidates.take(greatest(rank_candidates(beams, candidates, self.options), self.width)[1])

    def done(self, beams: Beams) -> np.ndarray:
        """Which images are done: the captions wanted are finished and nothing better can come."""
        wanted = slice(self.first, self.first + self.options.num_captions)
        complete = beams.finished[:, wanted] | np.isneginf(beams.scores[:, wanted])
        ranks = rank(beams.scores, beams.lengths, self.options)
        # An open hypothesis can rank no higher than its present score over the greatest length.
        hope = rank(beams.scores, float(self.options.max_words), self.options)
        hope = np.where(beams.finished, np.float32(-np.inf), hope)
        done: np.ndarray = complete.all(1) & ~(ranks[:, wanted.stop - 1] < hope.max(1))
        return done

    def best(self, beams: Beams, image: int) -> list[Hypothesis]:
        """The captions of one image, the best first."""
        return beams.hypotheses(image, range(self.first, self.first + self.options.num_captions))


class RequiredWordsSearch(BeamSearch):
    """Beam search with a beam for each number of required words written so far (Hokamp and Liu, 2017).

    Args:
        options: Width of each beam and so on.
        constraints: Knows the required words.
    """

    def __init__(self, options: DecodingOptions, constraints: Constraints) -> None:
        super().__init__(options)
        self._constraints = constraints
        self._beams = len(constraints.required) + 1
        self.width = self._beams * options.beam_size
        self.first = self.width - options.beam_size

    def choose(self, beams: Beams, log_probabilities: np.ndarray) -> Candidates:
        """The best extensions for each beam: from the beam itself, or by a required word from the last."""
        size, required = self.options.beam_size, self._constraints.required
        images = len(log_probabilities)
        missing = self._constraints.missing(beams.words)
        of_required = log_probabilities[:, :, required]
        log_probabilities[:, :, required] = np.where(missing, np.float32(-np.inf), of_required)
        staying = top_candidates(log_probabilities, beams.finished, size)
        rising = Candidates(
            np.broadcast_to(np.arange(self.width)[None, :, None], of_required.shape).reshape(images, -1),
            np.broadcast_to(required, of_required.shape).reshape(images, -1),
            np.where(missing, of_required, np.float32(-np.inf)).reshape(images, -1),
        )
        candidates = Candidates(*(np.concatenate(pair, 1) for pair in zip(staying, rising, strict=True)))
        target = np.concatenate([staying.parents // size, rising.parents // size + 1], 1)
        here = target[:, None] == np.arange(self._beams)[None, :, None]
        ranks = rank_candidates(beams, candidates, self.options)
        best, indices = greatest(np.where(here, ranks[:, None], np.float32(-np.inf)), size)
        chosen = candidates.take(indices.reshape(images, -1))
        # A beam with too few hypotheses is filled up with what belongs elsewhere.
        filling = np.isneginf(best).reshape(images, -1)
        return chosen._replace(log_probabilities=np.where(filling, np.float32(-np.inf), chosen.log_probabilities))


class RequiredPiecesSearch(BeamSearch):
    """The same for required words of several tokens, with a beam for each number of their tokens.

    Args:
        options: Width of each beam and so on.
        rules: Hold the required words.
    """

    def __init__(self, options: DecodingOptions, rules: TokenRules) -> None:
        super().__init__(options)
        self._rules = rules
        self.width = (rules.required + 1) * options.beam_size
        self.first = self.width - options.beam_size

    def choose(self, beams: Beams, log_probabilities: np.ndarray) -> Candidates:
        """The best extensions for each beam."""
        log_probabilities[beams.finished] = -np.inf
        log_probabilities[beams.finished, PAD] = 0
        lengths = (beams.lengths + ~beams.finished)[..., None]
        ranks = rank(beams.scores[..., None] + log_probabilities, lengths, self.options)
        return Candidates(*choose_required(self._rules, self.options.beam_size, beams.words, ranks, log_probabilities))


class DiverseBeamSearch(BeamSearch):
    """Diverse beam search (Vijayakumar et al., 2018): words of earlier groups count less.

    Args:
        options: Groups, penalty, and the width of all groups together.
    """

    def __init__(self, options: DecodingOptions) -> None:
        super().__init__(options)
        self._group = options.beam_size // options.diverse_groups
        self.active = list(range(0, self.width, self._group))

    def choose(self, beams: Beams, log_probabilities: np.ndarray) -> Candidates:
        """The best extensions of each group, in the order of the groups."""
        images, _, vocabulary = log_probabilities.shape
        used = np.zeros((images, vocabulary), np.float32)
        chosen = []
        for begin in self.active:
            group = slice(begin, begin + self._group)
            penalty = np.float32(self.options.diversity_penalty) * used
            candidates = top_candidates(
                log_probabilities[:, group] - penalty[:, None], beams.finished[:, group], self._group
            )
            candidates = candidates._replace(parents=candidates.parents + begin)
            best, indices = greatest(rank_candidates(beams, candidates, self.options), self._group)
            candidates = candidates.take(indices)
            places = candidates.parents * vocabulary + candidates.words
            own = np.take_along_axis(log_probabilities.reshape(images, -1), places, 1)
            own[np.take_along_axis(beams.finished, candidates.parents, 1)] = 0
            # A group with too few hypotheses is filled up with what cannot be, even a finished one once more.
            filling = np.isneginf(best)
            own[filling] = -np.inf
            chosen.append(candidates._replace(log_probabilities=own))
            np.add.at(used, (np.arange(images)[:, None], candidates.words), (~filling).astype(np.float32))
            used[:, PAD] = 0
        return Candidates(*(np.concatenate(parts, 1) for parts in zip(*chosen, strict=True)))

    def done(self, beams: Beams) -> np.ndarray:
        """Which images have nothing but finished captions."""
        return _all_finished(beams)

    def best(self, beams: Beams, image: int) -> list[Hypothesis]:
        """The captions of one image: first each group's best, then each one's second, equal ones once."""
        ranks = rank(beams.scores[image], beams.lengths[image], self.options).tolist()
        groups = [sorted(range(begin, begin + self._group), key=lambda index: -ranks[index]) for begin in self.active]
        distinct: dict[tuple[int, ...], int] = {}
        for index in (group[depth] for depth in range(self._group) for group in groups):
            distinct.setdefault(tuple(beams.words[image, index].tolist()), index)
        wanted = [index for index in distinct.values() if ranks[index] > -np.inf][: self.options.num_captions]
        return beams.hypotheses(image, sorted(wanted, key=lambda index: -ranks[index]))


class Sampling:
    """Independent captions, each word drawn at random with Gumbel noise (Gumbel, 1954), one for all images.

    Args:
        options: Temperature and so on, and how many captions.
    """

    def __init__(self, options: DecodingOptions) -> None:
        self.options = options
        self.width = options.num_captions
        self.active = list(range(self.width))
        self._generator = np.random.default_rng(options.seed)

    def choose(self, beams: Beams, log_probabilities: np.ndarray) -> Candidates:
        """One word for each hypothesis."""
        kept = filter_logits(
            log_probabilities / np.float32(self.options.temperature), self.options.top_k, self.options.top_p
        )
        words = (kept + self._generator.gumbel(size=kept.shape[1:]).astype(np.float32)).argmax(2)
        chosen = np.take_along_axis(log_probabilities, words[..., None], 2)[..., 0]
        parents = np.broadcast_to(np.arange(self.width), words.shape)
        return Candidates(
            parents, np.where(beams.finished, PAD, words), np.where(beams.finished, np.float32(0), chosen)
        )

    def done(self, beams: Beams) -> np.ndarray:
        """Which images have nothing but finished captions."""
        return _all_finished(beams)

    def best(self, beams: Beams, image: int) -> list[Hypothesis]:
        """The captions of one image, the best first; independent draws may be equal."""
        ranks = rank(beams.scores[image], beams.lengths[image], self.options)
        return beams.hypotheses(image, np.argsort(-ranks, kind="stable").tolist())


def filter_logits(logits: np.ndarray, top_k: int, top_p: float) -> np.ndarray:
    """Logits with those of unlikely words at -inf.

    Args:
        logits: Shape (…, vocabulary).
        top_k: Only so many of the likeliest stay; 0 keeps all.
        top_p: Of these, only the fewest whose probabilities reach this sum stay.
    """
    if top_k == 0 and top_p == 1:
        return logits
    order = np.argsort(-logits, axis=-1, kind="stable")
    ordered = np.take_along_axis(logits, order, -1)
    if top_k:
        ordered[..., top_k:] = -np.inf
    if top_p < 1:
        share = softmax(ordered)
        ordered[share.cumsum(-1) - share >= top_p] = -np.inf
    kept = np.empty_like(logits)
    np.put_along_axis(kept, order, ordered, -1)
    return kept


def _all_finished(beams: Beams) -> np.ndarray:
    done: np.ndarray = np.all(beams.finished | np.isneginf(beams.scores), axis=1)
    return done
