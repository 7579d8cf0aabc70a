"""Decoding options: one frozen dataclass, validated once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, TypeAlias

from captioner.errors import CaptionerError
from captioner.text.vocabulary import SPECIAL_WORDS, UNKNOWN

Word: TypeAlias = int | str
"""A token id; `captioner.pipeline.Captioner` accepts the word's text, too."""


@dataclass(frozen=True)
class DecodingOptions:
    """Options of caption generation.

    The log-probabilities that are returned are always the model's own: neither temperature nor constraints change
    them.

    Attributes:
        beam_size: Hypotheses kept for each image; 1 is greedy decoding. Not used by sampling.
        num_captions: Captions returned for each image, at most ``beam_size`` unless they are sampled.
        max_words: Maximum number of words.
        length_penalty: Exponent a of the length by which log-probabilities are divided before hypotheses are compared,
            in [0, 10]; 0 compares plain log-probabilities, which favors short captions.
        length_normalization: Whether the length n (words, END counts) enters as n^a (``average``: with a = 1, the mean
            per word) or as ((5 + n) / 6)^a (``gnmt``: Wu et al., 2016, equation 14).
        min_words: Minimum number of words.
        no_repeat_ngram: Length of the word sequences that may not occur twice in a caption, in which then no word (of
            a vocabulary of words) comes twice in a row; 0 allows repetition.
        forbidden_words: Words that no caption contains.
        required_words: Words that every caption contains, in any order (beam search only).
        bad_endings: Words that no caption ends with.
        prompt: Words that every caption begins with: text, or token ids; empty for none. They count towards
            ``max_words`` and ``min_words``. Hypotheses are compared by the words after them.
        diverse_groups: Number of groups that the beam is divided into, each discouraged from the words of those before
            it (Vijayakumar et al., 2018); 1 is plain beam search.
        diversity_penalty: Amount subtracted from the log-probability of a word for each earlier group that has chosen
            it at the same step, the paper's λ, in [0, 1000]. It only affects the comparison.
        sample: Whether words are sampled from the model's distribution rather than searched for.
        temperature: Divisor of the logits before sampling, at least 10⁻⁶; below 1 it favors likely words.
        top_k: Number of most likely words to sample from; 0 means all.
        top_p: Probability mass of the smallest set of most likely words to sample from (nucleus sampling, Holtzman et
            al., 2020).
        seed: Seed of the sampling. With one seed, the captions of an image depend on nothing but image and options.

    Raises:
        CaptionerError: A value is out of range, or two options exclude each other.
    """

    beam_size: int = 5
    num_captions: int = 1
    max_words: int = 20
    length_penalty: float = 0.9
    length_normalization: Literal["average", "gnmt"] = "average"
    min_words: int = 0
    no_repeat_ngram: int = 2
    forbidden_words: tuple[Word, ...] = ()
    required_words: tuple[Word, ...] = ()
    bad_endings: tuple[Word, ...] = ()
    prompt: str | tuple[int, ...] = ""
    diverse_groups: int = 1
    diversity_penalty: float = 0.5
    sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("beam_size", 1),
            ("num_captions", 1),
            ("max_words", 1),
            ("min_words", 0),
            ("no_repeat_ngram", 0),
            ("diverse_groups", 1),
            ("top_k", 0),
            ("seed", 0),
        ):
            self._check(name, "a whole number", isinstance(getattr(self, name), Integral))
            self._check(name, f"at least {least}", getattr(self, name) >= least)
        for name in ("length_penalty", "diversity_penalty", "temperature", "top_p"):
            self._check(name, "a number", isinstance(getattr(self, name), Real))
        # Beyond these, float32 overflows.
        for name, most in (("length_penalty", 10), ("diversity_penalty", 1000)):
            self._check(name, f"a number of at least 0 and at most {most}", 0 <= getattr(self, name) <= most)
        self._check("temperature", "a number of at least 0.000001", 1e-6 <= self.temperature < math.inf)
        self._check("top_p", "greater than 0 and at most 1", 0 < self.top_p <= 1)
        self._check("seed", "less than 2^63", self.seed < 2**63)
        self._check("length_normalization", "average or gnmt", self.length_normalization in ("average", "gnmt"))
        for name in ("forbidden_words", "required_words", "bad_endings"):
            object.__setattr__(self, name, tuple(dict.fromkeys(_words(name, getattr(self, name)))))
        if not isinstance(self.prompt, str):
            object.__setattr__(self, "prompt", _words("prompt", self.prompt, least=UNKNOWN))
        self._check_clashes()

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """The token ids of the prompt.

        Raises:
            CaptionerError: The prompt is text, which only a captioner can convert.
        """
        words = (self.prompt,) if isinstance(self.prompt, str) and self.prompt else self.prompt
        return tuple(only_ids(words))

    def _check(self, name: str, rule: str, holds: bool) -> None:
        if not holds:
            raise CaptionerError(f"{_title(name)} is {getattr(self, name)!r}; it must be {rule}")

    def _check_clashes(self) -> None:
        if self.min_words > self.max_words:
            raise CaptionerError(f"min words is {self.min_words}, more than max words ({self.max_words}); lower it")
        for word in self.required_words:
            if word in self.forbidden_words:
                raise CaptionerError(f"word {word!r} is both required and forbidden; drop one of the two")
        given = () if isinstance(self.prompt, str) else self.prompt
        if len(given) >= self.max_words:
            raise CaptionerError(f"the prompt has {len(given)} words and max words is {self.max_words}; raise it")
        required = set(self.required_words) - set(given)
        needed = len(given) + len(required)
        if required and required <= set(self.bad_endings):
            needed += 1
        if needed > self.max_words:
            raise CaptionerError(
                f"{len(self.required_words)} required words need captions of {needed} words, but max words is "
                f"{self.max_words}; raise it"
            )
        if self.sample:
            for name in ("required_words", "diverse_groups"):
                if getattr(self, name) != _default(name):
                    raise CaptionerError(f"{_title(name)} need beam search; drop them, or do not sample")
            if self.beam_size not in (1, _default("beam_size")):
                raise CaptionerError(f"beam size is {self.beam_size}, but sampling keeps no beam; drop one of the two")
            return
        for name in ("temperature", "top_k", "top_p", "seed"):
            if getattr(self, name) != _default(name):
                raise CaptionerError(
                    f"{_title(name)} is {getattr(self, name)}, which only sampling uses; set sample", "sample"
                )
        if self.num_captions > self.beam_size:
            raise CaptionerError(
                f"{self.num_captions} captions cannot come from a beam of {self.beam_size}; widen the beam"
            )
        if self.beam_size % self.diverse_groups:
            raise CaptionerError(
                f"a beam of {self.beam_size} cannot be divided into {self.diverse_groups} diverse groups; make it a "
                "multiple of them"
            )
        if self.diverse_groups > 1 and self.required_words:
            raise CaptionerError("required words and diverse groups cannot be combined; drop one of the two")
        if self.diverse_groups == 1 and self.diversity_penalty != _default("diversity_penalty"):
            raise CaptionerError(
                f"diversity penalty is {self.diversity_penalty}, but there is one group; set diverse groups"
            )


def _words(name: str, given: Sequence[Word], least: int = len(SPECIAL_WORDS)) -> tuple[Word, ...]:
    """The words as a tuple; ids are ``least`` or more."""
    if isinstance(given, str):
        raise CaptionerError(f"{_title(name)} is the text {given!r}; give a list of words")
    if not isinstance(given, Iterable):
        raise CaptionerError(f"{_title(name)} is {given!r}; give a list of words")
    # NumPy integers are ids, too.
    words = tuple(int(word) if isinstance(word, Integral) else word for word in given)
    for word in words:
        if not isinstance(word, (int, str)):
            raise CaptionerError(f"{_title(name)} has {word!r}, which is neither a word nor an id; drop it")
        if isinstance(word, int) and word < least:
            raise CaptionerError(f"{_title(name)} has the id {word}, which stands for no word; drop it")
    return words


def only_ids(words: Iterable[Word]) -> list[int]:
    """The words, all of which must be ids.

    Raises:
        CaptionerError: One is text, which only a captioner can convert.
    """
    ids = []
    for word in words:
        if not isinstance(word, int):
            raise CaptionerError(f"word {word!r} is text, but decode knows ids alone; give it to Captioner.caption")
        ids.append(word)
    return ids


def _default(name: str) -> object:
    return DecodingOptions.__dataclass_fields__[name].default


def _title(name: str) -> str:
    return name.replace("_", " ")
