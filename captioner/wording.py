"""Words of the decoding options: text in, a vocabulary's ids out."""

from __future__ import annotations

from dataclasses import replace

from captioner.decoding import DecodingOptions
from captioner.decoding.options import Word
from captioner.errors import CaptionerError
from captioner.vocabulary import Vocabulary, split_words


def with_ids(options: DecodingOptions, vocabulary: Vocabulary) -> DecodingOptions:
    """Options whose words are ids.

    A bad ending that the vocabulary lacks is passed over, since it can never be written, so that one list serves every
    model.

    Args:
        options: Its words are text, in any case, or ids.
        vocabulary: Whose ids are wanted.

    Raises:
        CaptionerError: A word is none, several, or one that the model does not know.
    """

    def ids(name: str, needed: bool = True) -> tuple[int, ...]:
        found = (_id(word, name, vocabulary, needed) for word in getattr(options, name))
        return tuple(id_ for id_ in found if id_ is not None)

    forbidden, required = ids("forbidden_words"), ids("required_words")
    for word in required:
        if word in forbidden:
            raise CaptionerError(f"word {vocabulary.words[word]!r} is both required and forbidden; drop one of the two")
    return replace(
        options,
        forbidden_words=forbidden,
        required_words=required,
        bad_endings=ids("bad_endings", needed=False),
    )


def _id(word: Word, name: str, vocabulary: Vocabulary, needed: bool) -> int | None:
    title = name.replace("_", " ")
    if isinstance(word, int):
        if word >= len(vocabulary):
            raise CaptionerError(f"{title} has the id {word}, but the model's {len(vocabulary)} words end before it")
        return word
    parts = split_words(word)
    if len(parts) != 1:
        raise CaptionerError(f"{title} has {word!r}, which is {len(parts)} words to the model; give single words")
    [known] = parts
    if known in vocabulary:
        return vocabulary.id(known)
    if needed:
        raise CaptionerError(f"{title} has {word!r}, which the model does not know; use one of its words")
    return None
