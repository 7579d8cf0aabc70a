"""Captions of any language as pieces: words, characters or subwords, from which the text can be read off again.

A piece begins with ``▁`` (U+2581) where a space stands before it, as SentencePiece has it (Kudo and Richardson, 2018):
to join pieces is to write them one after another. Capitals, punctuation and marks stay.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from captioner.errors import CaptionerError, first_line
from captioner.utils.caching import memoized

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Learned = Literal["bpe", "unigram"]
Kind = Literal["words", "characters", Learned]

SPACE = "▁"
_UNKNOWN = "<unk>"
_STEP = 1e-4
"""Difference of log-probability by which the library tells rare characters of a unigram model apart."""
_APOSTROPHES = "'’"
_JOINERS = "-‐‑\u200c\u200d"
"""Hyphens and the joiners of Arabic and Indic scripts: part of a word between two letters."""

UNSPACED = (
    (0x0E00, 0x0EFF, 5),  # Thai, Lao
    (0x0F00, 0x109F, 5),  # Tibetan, Burmese
    (0x1780, 0x17FF, 5),  # Khmer
    (0x3040, 0x30FF, 2),  # Japanese
    (0x3400, 0x4DBF, 2),  # Chinese
    (0x4E00, 0x9FFF, 2),
    (0xF900, 0xFAFF, 2),
    (0x20000, 0x3FFFF, 2),
)
"""First and last letter of scripts without spaces between words, and the usual number of letters of a word."""


@dataclass(frozen=True)
class Pieces:
    """A tokenizer for captions of any language.

    Attributes:
        kind: ``words`` divides at spaces and punctuation, and after an apostrophe (l' homme); ``characters`` divides
            everywhere; ``bpe`` (Sennrich et al., 2016) and ``unigram`` (Kudo, 2018) divide words, or text without
            spaces, into subwords that are learned from captions.
        model: The learned subwords, as JSON of Hugging Face's tokenizers; empty for the other kinds.

    Raises:
        CaptionerError: The kind is unknown, or the subwords are missing.
    """

    kind: Kind
    model: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind) or not isinstance(self.model, str):
            raise CaptionerError(f"has the tokenizer {str(self.kind)[:40]!r}, unknown here; update captioner")
        if bool(self.model) != (self.kind in get_args(Learned)):
            raise CaptionerError(f"its tokenizer {self.kind!r} lacks its subwords, or has some; it was edited")

    @classmethod
    def learn(cls, captions: Iterable[str], size: int, kind: Learned = "bpe") -> Pieces:
        """Learn subwords from captions; from the same ones always the same.

        Args:
            captions: Captions of the training split.
            size: Number of subwords, at most.
            kind: ``bpe`` joins the most frequent neighbors again and again; ``unigram`` finds those that make the
                captions most likely, and divides a word as is most likely.

        Raises:
            CaptionerError: The package tokenizers is missing, or the captions have more characters than the size.
        """
        library = _library()
        bpe = kind == "bpe"
        tokenizer = library.Tokenizer(library.models.BPE(unk_token=_UNKNOWN) if bpe else library.models.Unigram())
        divide = library.pre_tokenizers
        tokenizer.pre_tokenizer = divide.Sequence([divide.Metaspace(), divide.Punctuation()])
        options = {"vocab_size": size, "special_tokens": [_UNKNOWN], "show_progress": False}
        trainers = library.trainers
        trainer = trainers.BpeTrainer(**options) if bpe else trainers.UnigramTrainer(unk_token=_UNKNOWN, **options)
        try:
            tokenizer.train_from_iterator(map(normalize, captions), trainer)
        except Exception as error:  # the library raises no kind of its own
            raise CaptionerError(f"{size} subwords cannot be learned ({first_line(error)}); ask for more") from error
        if not bpe:
            learned = json.loads(tokenizer.to_str())["model"]["vocab"]
            tokenizer.model = library.models.Unigram(_in_order(learned), unk_id=0)
        return cls(kind, tokenizer.to_str())

    def facts(self) -> dict[str, str]:
        """Return it in plain JSON values, for `Pieces`."""
        return asdict(self)

    def split(self, text: str) -> list[str]:
        """Split a caption into pieces, the first of which begins with a space as words within it do."""
        text = normalize(text)
        if self.model:
            pieces: list[str] = self._subwords.encode(text, add_special_tokens=False).tokens
            return pieces
        if self.kind == "words":
            return _split_words(text)
        return list(f" {text}".replace(" ", SPACE)) if text else []

    def known_subwords(self) -> list[str]:
        """The learned subwords, in their own order."""
        ids = self._subwords.get_vocab()
        return [piece for piece in sorted(ids, key=ids.__getitem__) if piece != _UNKNOWN]

    def group(self, pieces: Sequence[str]) -> list[int]:
        """Numbers of consecutive pieces that make up each whole word, mark of punctuation, or letter without spaces."""
        counts: list[int] = []
        before = ""
        for piece in pieces:
            if counts and self.kind != "words" and not begins_word(before, piece):
                counts[-1] += 1
            else:
                counts.append(1)
            before = piece
        return counts

    @cached_property
    def _subwords(self) -> Tokenizer:
        library = _library()
        try:
            loaded: Tokenizer = library.Tokenizer.from_str(self.model)
            return loaded
        except Exception as error:  # the library raises no kind of its own
            raise CaptionerError(f"its subwords are malformed ({first_line(error)}); get an undamaged copy") from error


def _in_order(learned: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """The subwords of a unigram model with their log-probabilities, `_UNKNOWN` first, as each training finds them.

    The trainer adds up in an order of its own, and orders characters that are too rare to be learned by `_STEP`.
    """
    scores = dict(learned)
    unknown = scores.pop(_UNKNOWN)
    characters = [piece for piece in scores if len(piece) == 1]
    lowest = min(scores.values(), default=0.0)
    rare = {piece for piece in characters if scores[piece] < lowest + _STEP * (len(characters) + 1)}
    rounded = {piece: round(lowest if piece in rare else score, 3) for piece, score in scores.items()}
    return [(_UNKNOWN, unknown), *sorted(rounded.items(), key=lambda item: (-item[1], item[0]))]


def _library() -> ModuleType:
    """Hugging Face's tokenizers, without threads of its own, of which it would complain when a process forks."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise CaptionerError("subwords need tokenizers; run pip install 'captioner[languages]'") from error
    return tokenizers


def normalize(text: str) -> str:
    """Compose letters and marks (NFC), and make all runs of whitespace one space."""
    return " ".join(unicodedata.normalize("NFC", text.replace(SPACE, " ")).split())


def join_pieces(pieces: Iterable[str]) -> str:
    """The text that pieces stand for."""
    return "".join(pieces).replace(SPACE, " ").strip()


def _split_words(text: str) -> list[str]:
    """Split a normalized text into words and marks of punctuation."""
    pieces: list[str] = []
    for part in text.split(" "):
        start = 0
        for index in range(1, len(part) + 1):
            if index == len(part) or _is_boundary(part, index):
                pieces.append(part[start:index] if start else SPACE + part[:index])
                start = index
    return pieces


def _is_boundary(part: str, index: int) -> bool:
    """Whether a word or mark of punctuation ends before a place within text without spaces."""
    before, after = part[index - 1], part[index]
    if is_letter(before):
        if is_letter(after):
            return False
        following = part[index + 1 : index + 2]
        inside = bool(following) and is_letter(following)
        numeric = before.isdigit() and following.isdigit() and after in ".,"
        return not (inside and (after in _APOSTROPHES or after in _JOINERS or numeric))
    # What is no letter ends a word, unless it is in the middle of one: a hyphen, or the point of a number.
    if index >= 2 and is_letter(part[index - 2]) and is_letter(after):
        numeric = before in ".," and part[index - 2].isdigit() and after.isdigit()
        return not (before in _JOINERS or numeric)
    return True


class Reading(NamedTuple):
    """What a text says, of which more may come.

    Attributes:
        words: Its words, folded by `fold_word`, without punctuation; single letters in scripts without spaces.
        tail: The last word or mark of punctuation as it is written, to which the next letter may belong.
    """

    words: tuple[str, ...] = ()
    tail: str = ""

    def read(self, piece: str) -> Reading:
        """Read on; ``▁`` stands for a space."""
        words, tail = self
        for character in piece:
            if begins_word(tail, character):
                tail = character
            else:
                words, tail = words[:-1] if _is_word(tail) else words, tail + character
            if _is_word(tail):
                words = (*words, fold_word(word_of([tail])))
        return Reading(words, tail)

    @property
    def ends_with_word(self) -> bool:
        """Whether nothing comes after the last word."""
        return _is_word(self.tail)

    @property
    def is_open(self) -> bool:
        """Whether a letter that comes next belongs to the last word."""
        return bool(self.tail) and self.tail[-1] != SPACE and not stands_alone(_base(self.tail))


def separate(text: str) -> str:
    """A text with a space between words, marks of punctuation, and letters of scripts without spaces, to count them."""
    parts: list[str] = []
    for character in normalize(text).replace(" ", SPACE):
        if not parts or begins_word(parts[-1], character):
            parts.append("")
        parts[-1] += character
    return " ".join(word_of([part]) for part in parts)


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, as `Reading` has them."""
    return tuple(fold_word(part) for part in separate(text).split() if _is_word(part))


def _is_word(part: str) -> bool:
    return any(map(is_letter, part))


@memoized(maxsize=1 << 16)
def length_of(word: str) -> float:
    """What one of `Reading.words` counts: 1, or less for a letter of a script without spaces."""
    return 1 / (letters_of_word(word[0]) or 1)


def begins_word(before: str, piece: str) -> bool:
    """Whether a piece begins a whole word after another piece.

    Args:
        before: The previous piece, or the text so far; empty at the beginning.
        piece: The piece.
    """
    if not before or piece.startswith(SPACE):
        return True
    if before[-1] == SPACE or is_mark(piece[0]):
        return False
    return stands_alone(piece[0]) or stands_alone(_base(before))


def _base(text: str) -> str:
    """The last character of a text that is no mark."""
    return next((character for character in reversed(text) if not is_mark(character)), text[-1])


@memoized(maxsize=1 << 16)
def is_letter(character: str) -> bool:
    """Whether a character belongs to words: a letter, digit or mark."""
    return character.isalnum() or is_mark(character)


def is_mark(character: str) -> bool:
    """Whether a character belongs to the letter before it."""
    return unicodedata.category(character)[0] == "M"


@memoized(maxsize=1 << 16)
def stands_alone(character: str) -> bool:
    """Whether a character is no part of a longer word: of a script without spaces, or punctuation."""
    return bool(letters_of_word(character)) or not is_letter(character)


@memoized(maxsize=1 << 16)
def letters_of_word(character: str) -> int:
    """Usual number of letters of a word in a character's script, if that has no spaces between words; else 0."""
    code = ord(character)
    return next((usual for first, last, usual in UNSPACED if first <= code <= last), 0) if is_letter(character) else 0


def word_of(pieces: Iterable[str]) -> str:
    """The whole word that pieces make up."""
    return "".join(pieces).strip(SPACE)


@memoized(maxsize=1 << 16)
def fold_word(word: str) -> str:
    """A word for comparison, in any case; Turkish has letters i with and without a dot in both cases."""
    return unicodedata.normalize("NFC", word.casefold()).replace("i̇", "i").replace("ı", "i")
