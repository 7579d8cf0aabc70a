"""Decoding options by whole words, for captioners whose tokens are pieces of text of any language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from captioner.decoding.options import DecodingOptions, Word
from captioner.errors import CaptionerError
from captioner.text.pieces import (
    SPACE,
    Kind,
    Reading,
    begins_word,
    is_mark,
    length_of,
    letters_of_word,
    normalize,
    word_of,
    words_of,
)
from captioner.text.vocabulary import END, PAD, SPECIAL_WORDS, UNKNOWN, Vocabulary

TOKENS_OF_WORD: dict[Kind, int] = {"words": 2, "characters": 12, "bpe": 6, "unigram": 6}
"""Bound on the mean number of tokens of a word, punctuation included; beyond it, a caption is cut."""

_ROUNDING = 1e-6
_LETTER = Reading().read("x")

Words = tuple[str, ...]
"""As `Reading.words`: a word of an option can be several of them, with a hyphen, or in a script without spaces."""


class WholeWords:
    """Rules of decoding by whole words; a `captioner.decoding.rules.TokenRules`.

    In scripts without spaces a word is any sequence of letters, and lengths of captions and of repeated sequences are
    counted in words of the script's usual length.

    Args:
        options: The options; words are text, in any case, or ids.
        vocabulary: The vocabulary, which has a tokenizer.

    Attributes:
        token_options: The options without what these rules do, and with a limit in tokens.
        max_words: Maximum number of whole words.
        required: Number of tokens of all required words.

    Raises:
        CaptionerError: A word is empty or several, cannot be written, or is both required and forbidden; or the prompt
            has unknown or forbidden words, or leaves no room.
    """

    def __init__(self, options: DecodingOptions, vocabulary: Vocabulary) -> None:
        assert vocabulary.tokenizer is not None
        self._vocabulary = vocabulary
        self._tokenizer = vocabulary.tokenizer
        self._options = options
        self._readings: dict[tuple[int, ...], Reading] = {(): Reading()}
        self._prepare_pieces()
        self._prepare_words()
        prompt = self._prompt()
        self.max_words = options.max_words
        self.token_options = replace(
            options,
            max_words=len(prompt) + options.max_words * TOKENS_OF_WORD[self._tokenizer.kind],
            min_words=0,
            no_repeat_ngram=0,
            forbidden_words=(),
            required_words=(),
            bad_endings=(),
            prompt=prompt,
        )

    def _prepare_pieces(self) -> None:
        """Find out what each piece adds to a text, whatever comes before it."""
        self._pieces = ["" if id_ < len(SPECIAL_WORDS) else piece for id_, piece in enumerate(self._vocabulary.words)]
        words = self._words = [Reading().read(piece).words for piece in self._pieces]
        # Lengths: of each piece by itself, and where its first letter belongs to the word before it.
        self._continued = np.array([_length(_LETTER.read(piece).words) - 1 for piece in self._pieces])
        self._marks = np.array([bool(piece) and is_mark(piece[0]) for piece in self._pieces])
        self._lengths = np.where(self._marks, self._continued, [*map(_length, words)])
        self._begins = np.array([bool(piece) and begins_word("x", piece) for piece in self._pieces])
        self._begins[END] = True
        self._hanging = [id_ for id_, piece in enumerate(self._pieces) if piece.endswith(SPACE)]
        self._spaced = np.array([piece.startswith(SPACE) for piece in self._pieces])
        # Pieces that are complete as they stand: no later one changes their words.
        grows = self._grows = self._tokenizer.kind != "words"
        self._closed = {
            id_: own for id_, own in enumerate(words) if own and not (grows and not letters_of_word(own[-1][0]))
        }
        self._by_beginning: dict[Words, list[int]] = {}
        for id_, own in self._closed.items():
            for size in range(1, len(own) + 1):
                self._by_beginning.setdefault(own[:size], []).append(id_)

    def _prepare_words(self) -> None:
        options = self._options
        self._forbidden = [self._words_of_option("forbidden words", word) for word in options.forbidden_words]
        self._endings = [self._words_of_option("bad endings", word) for word in options.bad_endings]
        self._required = [self._words_of_option("required words", word) for word in options.required_words]
        for word, words in zip(options.required_words, self._required, strict=True):
            if words in self._forbidden:
                raise CaptionerError(f"word {word!r} is both required and forbidden; drop one of the two")
        self._spelled = [self._spell(word) for word in options.required_words]
        self.required = sum(map(len, self._spelled))
        self._costs = [self._costs_of(spelled) for spelled in self._spelled]
        never = [id_ for id_, own in self._closed.items() if any(_holds(own, word) for word in self._forbidden)]
        size = options.no_repeat_ngram
        self._never = [*never, *(id_ for id_, own in self._closed.items() if size and _repeats(own, size))]
        self._ending_ids = [id_ for id_, own in enumerate(self._words) if own in self._endings]

    def _prompt(self) -> tuple[int, ...]:
        """The tokens of the prompt, which is checked."""
        options = self._options
        prompt = options.prompt_ids if not isinstance(options.prompt, str) else self._encode(options.prompt)
        words = self._read(prompt).words
        for word, barred in zip(options.forbidden_words, self._forbidden, strict=True):
            if _holds(words, barred):
                raise CaptionerError(f"the prompt has {word!r}, which is forbidden; drop one of the two")
        length = _length(words)
        if prompt and length > options.max_words - 1 + _ROUNDING:
            raise CaptionerError(f"the prompt has {length:g} words and max words is {options.max_words}; raise it")
        needed = length + sum(_length(word) for word in self._required if not _holds(words, word))
        if needed > options.max_words + _ROUNDING:
            raise CaptionerError(
                f"{len(self._required)} required words need captions of {needed:g} words, but max words is "
                f"{options.max_words}; raise it"
            )
        return prompt

    def _encode(self, prompt: str) -> tuple[int, ...]:
        pieces = self._tokenizer.split(prompt)
        ids = tuple(map(self._vocabulary.id, pieces))
        unknown = [word_of([piece]) for piece, id_ in zip(pieces, ids, strict=True) if id_ == UNKNOWN]
        if unknown:
            told = ", ".join(map(repr, dict.fromkeys(unknown)))
            raise CaptionerError(f"prompt has {told}, which the model does not know; use its words")
        return ids

    def ruled_out(self, tokens: np.ndarray) -> np.ndarray:
        """Mask of the tokens that may not come next, shape (images, width, vocabulary).

        Args:
            tokens: The tokens so far, shape (images, width, steps).
        """
        images, width, steps = tokens.shape
        out = np.zeros((images, width, len(self._pieces)), bool)
        for place in np.ndindex(images, width):
            row = tuple(tokens[place].tolist())
            if not row or row[-1] not in (PAD, END):
                self._rule_out(row, out[place])
        if steps == self.token_options.max_words - 1:  # an end where there may be one; else the caption is cut
            out |= ~out[:, :, END, None] & (np.arange(len(self._pieces)) != END)
        return out

    def _rule_out(self, row: tuple[int, ...], out: np.ndarray) -> None:
        reading, options = self._read(row), self._options
        words, length = reading.words, _length(reading.words)
        added = self._continued if reading.is_open else self._lengths
        room = options.max_words + _ROUNDING - length
        out |= added > room
        out[self._never] = True
        out[END] = length < options.min_words - _ROUNDING or any(_ends(words, word) for word in self._endings)
        if reading.tail.endswith(SPACE):
            out |= self._spaced
            out[END] = True
        sequences = [*_sequences(words, options.no_repeat_ngram)]
        usual = length_of(words[-1]) if words else 1
        # No word comes twice in a row; letters of scripts without spaces do.
        itself = words[-1:] if options.no_repeat_ngram and usual == 1 else ()
        barred = {*self._forbidden, *sequences, itself, *(self._endings if room < 2 * usual else ())}
        if room < usual:
            out[self._hanging] = True
        out[self._ending_ids] |= added[self._ending_ids] + usual > room
        is_complete = not self._grows or len(row) == len(self.token_options.prompt)
        if is_complete and reading.is_open:
            out |= ~self._begins
        elif is_complete or not reading.ends_with_word:
            out |= self._marks
        elif (itself and words[-2:-1] == itself) or self._is_barred(words, sequences, is_last=room < usual):
            out |= self._begins if reading.is_open else ~self._marks  # the last word must become another
        for sequence in barred:
            for begun in range(len(sequence)):
                if _ends(words, sequence[:begun]):
                    out[self._by_beginning.get(sequence[begun:], [])] = True
        self._leave_room(row, words, room, added, out)

    def _is_barred(self, words: Words, sequences: Sequence[Words], is_last: bool) -> bool:
        """Whether the last word is one that a caption may not have there."""
        barred = [*self._forbidden, *(self._endings if is_last else ())]
        return any(_ends(words, word) for word in barred) or any(each == sequences[-1] for each in sequences[:-1])

    def _leave_room(self, row: Sequence[int], words: Words, room: float, added: np.ndarray, out: np.ndarray) -> None:
        """Rule out END while required words are missing, and what leaves too little room for them."""
        needed = np.zeros(len(out))
        for word, spelled, costs in zip(self._required, self._spelled, self._costs, strict=True):
            if not _holds(words, word):
                out[END] = True
                needed += costs[-1]
                begun = self._begun(row, spelled)
                for token, count in {spelled[0]: 0, spelled[begun]: begun}.items():
                    needed[token] -= costs[count]
        if self._required:
            out |= added + needed > room

    def written(self, tokens: Sequence[int]) -> int:
        """Number of tokens of required words that a hypothesis has written, those of an unfinished word included."""
        words = self._read(tuple(tokens)).words
        pairs = zip(self._required, self._spelled, strict=True)
        return sum(len(spelled) if _holds(words, word) else self._begun(tokens, spelled) for word, spelled in pairs)

    def proposed(self, tokens: Sequence[int]) -> list[int]:
        """Tokens that begin or continue a required word that a hypothesis lacks."""
        words = self._read(tuple(tokens)).words
        missing = [s for word, s in zip(self._required, self._spelled, strict=True) if not _holds(words, word)]
        return [token for spelled in missing for token in (spelled[self._begun(tokens, spelled)], spelled[0])]

    def _begun(self, tokens: Sequence[int], spelled: Sequence[int]) -> int:
        """Number of tokens of a required word, but the last, that the end of a hypothesis has."""
        counts = range(min(len(spelled) - 1, len(tokens)), 0, -1)
        return next((count for count in counts if list(tokens[-count:]) == list(spelled[:count])), 0)

    def _read(self, tokens: tuple[int, ...]) -> Reading:
        reading = self._readings.get(tokens)
        if reading is None:
            reading = self._read(tokens[:-1]).read(self._pieces[tokens[-1]])
            if len(self._readings) >= _MOST_READINGS:
                self._readings = {(): Reading()}
            self._readings[tokens] = reading
        return reading

    def _words_of_option(self, title: str, word: Word) -> Words:
        text = self._text_of_option(title, word)
        words = words_of(text)
        if not words or " " in text:
            raise CaptionerError(f"{title} has {text!r}, which is no single word; give single words")
        return words

    def _text_of_option(self, title: str, word: Word) -> str:
        if isinstance(word, str):
            return normalize(word)
        if word >= len(self._pieces):
            raise CaptionerError(f"{title} has the id {word}, but the model's {len(self._pieces)} words end before it")
        return word_of([self._pieces[word]])

    def _spell(self, word: Word) -> list[int]:
        """The tokens of a required word, within a caption."""
        text = self._text_of_option("required words", word)
        for pieces in self._spellings(text):
            ids = [self._vocabulary.id(piece) for piece in pieces]
            if UNKNOWN not in ids:
                return ids
        raise CaptionerError(f"required words has {text!r}, which the model does not know; use one of its words")

    def _spellings(self, word: str) -> Iterator[list[str]]:
        for form in dict.fromkeys((word, word.lower(), word.capitalize())):
            pieces = self._tokenizer.split(form)
            attached = [piece for piece in (pieces[0].removeprefix(SPACE), *pieces[1:]) if piece]
            yield from (attached, list(form)) if letters_of_word(form[0]) else (pieces, attached)

    def _costs_of(self, spelled: Sequence[int]) -> list[float]:
        """What the first token of a required word adds to a caption's length, the first two, and so on."""
        readings = [self._read(tuple(spelled[: 1 + index])) for index in range(len(spelled))]
        return [_length(reading.words) for reading in readings]


_MOST_READINGS = 1 << 16


def _length(words: Words) -> float:
    return sum(map(length_of, words))


def _ends(words: Words, sequence: Words) -> bool:
    return len(sequence) <= len(words) and words[len(words) - len(sequence) :] == sequence


def _holds(words: Words, sequence: Words) -> bool:
    return any(words[start : start + len(sequence)] == sequence for start in range(len(words) - len(sequence) + 1))


def _sequences(words: Words, size: int) -> Iterator[Words]:
    """All sequences of a number of words, one for each last word; in scripts without spaces, of as many letters."""
    for end in range(1, len(words) + 1) if size else ():
        length, start = 0.0, end
        while start and length < size - _ROUNDING:
            start -= 1
            length += length_of(words[start])
        if length > size - _ROUNDING:
            yield words[start:end]


def _repeats(words: Words, size: int) -> bool:
    sequences = [*_sequences(words, size)]
    return len(set(sequences)) < len(sequences)
