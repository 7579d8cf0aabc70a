"""Vocabulary: captions to token ids and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Literal

from captioner.errors import CaptionerError
from captioner.text.articles import fit_articles
from captioner.text.pieces import Pieces, join_pieces, word_of

PAD, START, END, UNKNOWN = range(4)
SPECIAL_WORDS = ("<pad>", "<start>", "<end>", "<unk>")
"""Special tokens of the ids `PAD`, `START`, `END` and `UNKNOWN`; every vocabulary begins with them."""
NEVER_WRITTEN = (PAD, START, UNKNOWN)
"""Special tokens that are never generated."""

_BRACKETS = frozenset({"-lrb-", "-rrb-", "-lsb-", "-rsb-", "-lcb-", "-rcb-"})
"""The tokenizer's tokens of brackets, which do not belong into a caption."""


_FREQUENT = 200
"""The articles of an English vocabulary are among so many of its most frequent words."""


def split_words(caption: str) -> list[str]:
    """Split a caption into lower-case words without punctuation: the tokens of the COCO scores but for brackets."""
    words: list[str] = []
    for piece in caption.split(" "):
        known = _PIECES[piece]
        if known is None:
            from captioner.text.tokenizer import tokenize

            return _words(tokenize([caption])[0])
        words += known
    return words


class _Pieces(dict[str, "tuple[str, ...] | None"]):
    """The words of what stands between two spaces, which mostly recurs; None where they depend on what is around."""

    def __missing__(self, piece: str) -> tuple[str, ...] | None:
        from captioner.text.tokenizer import tokens_of_piece  # its patterns take a while: writing needs none

        if len(self) >= _MOST_PIECES:
            self.clear()
        tokens = tokens_of_piece(piece)
        self[piece] = words = None if tokens is None else tuple(_words(tokens))
        return words


_MOST_PIECES = 1 << 16
_PIECES = _Pieces()


def _words(tokens: Iterable[str]) -> list[str]:
    return [word for token in tokens for word in token.split() if word not in _BRACKETS]


def join_words(words: Sequence[str]) -> str:
    """Join words to text; what the tokenizer has split off (``'s``, ``n't``) is attached to the previous word."""
    text = ""
    for word in words:
        attached = not text or word == "n't" or (word.startswith("'") and len(word) > 1)
        text += word if attached else f" {word}"
    return text


Unit = Literal["words", "characters", "tokens"]
"""What a language model reads: words as the COCO scores split them, characters, or what spaces divide."""


class Vocabulary:
    """The tokens of a decoder: special tokens, then words or characters.

    Attributes:
        words: The word of each id; the first four are `SPECIAL_WORDS`.
        tokenizer: What divides captions into tokens; None for English words in lower case, by `split_words`.
    """

    def __init__(self, words: Sequence[str], tokenizer: Pieces | None = None) -> None:
        if tuple(words[: len(SPECIAL_WORDS)]) != SPECIAL_WORDS:
            raise CaptionerError(f"a vocabulary begins with {' '.join(SPECIAL_WORDS)}, not {' '.join(words[:4])!r}")
        self.words = tuple(words)
        # Without `SPECIAL_WORDS`: a text that contains <end> does not end there.
        self._ids = {word: id_ for id_, word in enumerate(self.words) if word not in SPECIAL_WORDS}
        self.tokenizer = tokenizer
        self._is_english = tokenizer is None and {"a", "an", "the", "of"} <= set(self.words[:_FREQUENT])
        if len(self._ids) + len(SPECIAL_WORDS) != len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise CaptionerError(f"the vocabulary has the word {twice!r} twice; each word has one id")

    @classmethod
    def from_captions(
        cls,
        captions: Iterable[str],
        min_count: int = 5,
        always: Iterable[str] = (),
        tokenizer: Pieces | None = None,
    ) -> Vocabulary:
        """Build the vocabulary of captions: words that occur at least ``min_count`` times, the most frequent first.

        Args:
            captions: Captions of the training split only: a word from test captions would be leaked.
            min_count: Rarer words become `UNKNOWN`.
            always: Words that it has however rare they are, after the others.
            tokenizer: As the attribute; one of learned subwords brings its own, however rare.

        Raises:
            CaptionerError: No word is frequent enough.
        """
        if tokenizer is not None and tokenizer.model:
            known = (piece for piece in tokenizer.known_subwords() if piece not in SPECIAL_WORDS)
            return cls([*SPECIAL_WORDS, *known], tokenizer)
        split = split_words if tokenizer is None else tokenizer.split
        counts = Counter(word for caption in captions for word in split(caption))
        frequent = cls.from_counts(counts, min_count, tokenizer)
        return cls([*frequent.words, *(word for word in dict.fromkeys(always) if word not in frequent)], tokenizer)

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], min_count: int = 5, tokenizer: Pieces | None = None) -> Vocabulary:
        """Build a vocabulary from counts: words that occur at least ``min_count`` times, the most frequent first.

        Raises:
            CaptionerError: No word is frequent enough.
        """
        kept = sorted((word for word, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w))
        if not kept:
            raise CaptionerError(
                f"no word of the training captions occurs {min_count} times or more; lower min_count or add text"
            )
        return cls([*SPECIAL_WORDS, *(word for word in kept if word not in SPECIAL_WORDS)], tokenizer)

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def id(self, word: str) -> int:
        """Id of a word; UNKNOWN if it is not in the vocabulary or is one of `SPECIAL_WORDS`."""
        return self._ids.get(word, UNKNOWN)

    def encode(self, caption: str) -> list[int]:
        """Encode a caption: START, the id of each word, END; unknown words become UNKNOWN."""
        get = self._ids.get
        return [START, *[get(word, UNKNOWN) for word in self.split(caption)], END]

    def split(self, caption: str) -> list[str]:
        """Split a caption into tokens, known or not."""
        return split_words(caption) if self.tokenizer is None else self.tokenizer.split(caption)

    def known_ids(self, prompt: str, unit: Unit) -> tuple[int, ...]:
        """Encode the beginning of a text, all of whose tokens must be in the vocabulary.

        Args:
            prompt: The beginning.
            unit: Kind of the tokens.

        Raises:
            CaptionerError: It has no token, or one that is not in the vocabulary.
        """
        parts = split_text(prompt, unit)
        if not parts:
            raise CaptionerError(f"prompt {prompt!r} has no words; give some, or no prompt")
        unknown = [part for part in dict.fromkeys(parts) if part not in self]
        if unknown:
            told = ", ".join(map(repr, unknown))
            raise CaptionerError(f"prompt has {told}, which the model does not know; use its {unit}")
        return tuple(self._ids[part] for part in parts)

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Decode ids to tokens up to the first END, without PAD and START; English articles fit the next word."""
        words = []
        for id_ in ids:
            if id_ == END:
                break
            if id_ not in (PAD, START):
                words.append(self.words[id_])
        return fit_articles(words) if self._is_english else words

    def text(self, ids: Iterable[int]) -> str:
        """Decode ids to a line of text, as a person writes it."""
        tokens = self.decode(ids)
        return join_words(tokens) if self.tokenizer is None else join_pieces(tokens)

    def whole_words(self, ids: Iterable[int]) -> tuple[list[str], list[int]]:
        """Decode ids to whole words, and the number of tokens of each."""
        tokens = self.decode(ids)
        if self.tokenizer is None:
            return tokens, [1] * len(tokens)
        counts = self.tokenizer.group(tokens)
        remaining = iter(tokens)
        return [word_of(islice(remaining, count)) for count in counts], counts


def split_text(text: str, unit: Unit) -> list[str]:
    """Split a line into words, characters or tokens."""
    if unit == "words":
        return split_words(text)
    return list(text) if unit == "characters" else text.split()


def join_text(parts: list[str], unit: Unit) -> str:
    """Join words, characters or tokens to a line."""
    if unit == "words":
        return join_words(parts)
    return ("" if unit == "characters" else " ").join(parts)
