"""Captions to word ids and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from captioner.errors import CaptionerError
from captioner.text.articles import fit_articles

PAD, START, END, UNKNOWN = range(4)
SPECIAL_WORDS = ("<pad>", "<start>", "<end>", "<unk>")
"""The words of the ids `PAD`, `START`, `END` and `UNKNOWN`; every vocabulary begins with them."""
NEVER_WRITTEN = (PAD, START, UNKNOWN)
"""What no caption says."""

_BRACKETS = frozenset({"-lrb-", "-rrb-", "-lsb-", "-rsb-", "-lcb-", "-rcb-"})
"""The tokeniser's names of brackets, which nobody wants to see in a caption."""


_FREQUENT = 200
"""The articles of an English vocabulary are among so many of its most frequent words."""


def split_words(caption: str) -> list[str]:
    """The words of one caption, lower-case and without punctuation: the tokens of the COCO scores but for brackets."""
    from captioner.text.tokenizer import tokenize  # its patterns take a while to compile, and writing needs none

    return [word for token in tokenize([caption])[0] for word in token.split() if word not in _BRACKETS]


def join_words(words: Sequence[str]) -> str:
    """Words as text; what the tokeniser split off (``'s``, ``n't``) returns to the word before."""
    text = ""
    for word in words:
        attached = not text or word == "n't" or (word.startswith("'") and len(word) > 1)
        text += word if attached else f" {word}"
    return text


class Vocabulary:
    """The words that a decoder can read and write.

    Attributes:
        words: The word of each id, first the four `SPECIAL_WORDS`.
    """

    def __init__(self, words: Sequence[str]) -> None:
        if tuple(words[: len(SPECIAL_WORDS)]) != SPECIAL_WORDS:
            raise CaptionerError(f"a vocabulary begins with {' '.join(SPECIAL_WORDS)}, not {' '.join(words[:4])!r}")
        self.words = tuple(words)
        # Without those of `SPECIAL_WORDS`: a text that says <end> does not end there.
        self._ids = {word: id_ for id_, word in enumerate(self.words) if word not in SPECIAL_WORDS}
        self._is_english = {"a", "an", "the", "of"} <= set(self.words[:_FREQUENT])
        if len(self._ids) + len(SPECIAL_WORDS) != len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise CaptionerError(f"the vocabulary has the word {twice!r} twice; each word has one id")

    @classmethod
    def from_captions(cls, captions: Iterable[str], min_count: int = 5, always: Iterable[str] = ()) -> Vocabulary:
        """The words seen at least ``min_count`` times, the most frequent first.

        Args:
            captions: Those of the training split alone: a word known only from a test caption would be leaked.
            min_count: Rarer words become `UNKNOWN`.
            always: Words that it has however rare they are, after the others.

        Raises:
            CaptionerError: No word is frequent enough.
        """
        counts = Counter(word for caption in captions for word in split_words(caption))
        frequent = cls.from_counts(counts, min_count)
        return cls([*frequent.words, *(word for word in dict.fromkeys(always) if word not in frequent)])

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], min_count: int = 5) -> Vocabulary:
        """The words counted at least ``min_count`` times, the most frequent first.

        Raises:
            CaptionerError: No word is frequent enough.
        """
        kept = sorted((word for word, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w))
        if not kept:
            raise CaptionerError(
                f"no word of the training captions occurs {min_count} times or more; lower min_count or add text"
            )
        return cls([*SPECIAL_WORDS, *(word for word in kept if word not in SPECIAL_WORDS)])

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def id(self, word: str) -> int:
        """The id of a word of a text, UNKNOWN for one that is not in the vocabulary or is one of `SPECIAL_WORDS`."""
        return self._ids.get(word, UNKNOWN)

    def encode(self, caption: str) -> list[int]:
        """START, the id of each word, END; a word not in the vocabulary is UNKNOWN."""
        return [START, *(self.id(word) for word in split_words(caption)), END]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words of ids up to the first END, without PAD and START; English articles fit the words after them."""
        words = []
        for id_ in ids:
            if id_ == END:
                break
            if id_ not in (PAD, START):
                words.append(self.words[id_])
        return fit_articles(words) if self._is_english else words


Unit = Literal["words", "characters"]


def split_text(text: str, unit: Unit) -> list[str]:
    """The words or characters of a line."""
    return split_words(text) if unit == "words" else list(text)


def join_text(parts: list[str], unit: Unit) -> str:
    """A line from its words or characters."""
    return join_words(parts) if unit == "words" else "".join(parts)
