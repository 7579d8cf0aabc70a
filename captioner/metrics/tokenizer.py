"""Penn Treebank tokens of captions, exactly as the COCO scores count them, without Java."""

from __future__ import annotations

import re
from collections.abc import Sequence

from captioner.metrics.ptb import is_closed, next_token, plain_word

PUNCTUATION = frozenset({"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"})
"""Tokens that do not count. Brackets do: the official list has them in upper case, and all tokens are in lower case."""

_LINE_BREAK = re.compile("[\n\r\x0b\x0c\u2028\u2029]")


def tokenize(captions: Sequence[str]) -> list[list[str]]:
    """Splits captions into lower-case tokens without punctuation.

    They equal those of the official tool, which reads all captions in one go, with one exception: a line break within
    a caption is a space here, where the official tool shifts all later captions by a line.

    Args:
        captions: The captions of a corpus, in the order in which the official tool would read them: the tokens of one
            that ends on a single letter and a period depend on the next.

    Returns:
        The tokens of each. A token that spans a space ("2 1/2") holds U+00A0 in its place.
    """
    lines = [_LINE_BREAK.sub(" ", caption).replace("\xad", "") for caption in captions]
    text = "\n".join(lines)
    known: dict[str, list[str]] = {"": []}
    tokens, start = [], 0
    for line in lines:
        try:
            tokens.append([token for piece in line.split(" ") for token in known[piece]])
        except KeyError:
            tokens.append(_read(text, start, start + len(line), known))
        start += len(line) + 1
    return tokens


def _read(text: str, start: int, end: int, known: dict[str, list[str]]) -> list[str]:
    """The tokens of one line; those of a piece between spaces that has the same tokens everywhere are kept."""
    tokens: list[str] = []
    while start < end:
        space = text.find(" ", start, end)
        stop = space if space >= 0 else end
        piece = text[start:stop]
        if piece not in known and is_closed(piece):
            word = plain_word(piece)
            known[piece] = [word] if word else _lex(f"{piece} ", 0, len(piece))[0]
        if piece in known:
            tokens += known[piece]
            start = stop + 1
        else:
            found, start = _lex(text, start, start + 1)
            tokens += found
    return tokens


def _lex(text: str, start: int, end: int) -> tuple[list[str], int]:
    """The tokens that begin before ``end``, and the place after them."""
    tokens = []
    while start < end:
        token, start = next_token(text, start)
        if token and token not in PUNCTUATION:
            tokens.append(token)
    return tokens, start
