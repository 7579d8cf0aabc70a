"""The tokenizer of the COCO scores (Penn Treebank), without Java."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from captioner.text.ptb import is_closed, next_token, plain_word, skip_spaces
from captioner.utils.caching import memoized

PUNCTUATION = frozenset({"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"})
"""Tokens that are removed. Brackets are not: the official list has them in upper case, and tokens are in lower case."""

_LINE_BREAK = re.compile("[\n\r\x0b\x0c\u2028\u2029]")


def tokenize(captions: Sequence[str]) -> list[list[str]]:
    """Split captions into lower-case tokens without punctuation.

    They equal those of the official tool, which reads all captions at once, with one exception: a line break within a
    caption is a space here, while the official tool shifts all later captions by a line.

    Args:
        captions: The captions of a corpus, in the order in which the official tool would read them: the tokens of a
            caption that ends with a single letter and a period depend on the next one.

    Returns:
        The tokens of each caption. A token that spans a space ("2 1/2") contains U+00A0 instead.
    """
    lines = [_LINE_BREAK.sub(" ", caption).replace("\xad", "") for caption in captions]
    text = "\n".join(lines)
    # Most pieces between spaces have the same tokens in any context, and most captions consist of such pieces.
    pieces = {piece for line in lines for piece in line.split(" ")}
    closed = {piece: known for piece in pieces if (known := _read_closed(piece)) is not None}
    tokens, start = [], 0
    for line in lines:
        try:
            tokens.append([token for piece in line.split(" ") for token in closed[piece]])
        except KeyError:
            tokens.append(_strip_end(_read(text, start, start + len(line), closed), line))
        start += len(line) + 1
    return tokens


def tokens_of_piece(piece: str) -> tuple[str, ...] | None:
    """The tokens of what stands between two spaces of a caption; None where they depend on what is around it."""
    return None if _LINE_BREAK.search(piece) or "\xad" in piece else _closed_tokens(piece)


@memoized(maxsize=1 << 16)
def _read_closed(piece: str) -> tuple[str, ...] | None:
    return _closed_tokens(piece)


def _closed_tokens(piece: str) -> tuple[str, ...] | None:
    """Tokens of the text between two spaces; None where they depend on the context."""
    if not is_closed(piece):
        return None
    word = plain_word(piece)
    return (word,) if word else tuple(_read(f"{piece} ", 0, len(piece), {}))


def _strip_end(tokens: list[str], line: str) -> list[str]:
    """Strip an uncommon space at the end of a web address, as the official tool does at the end of a line of tokens."""
    if tokens and tokens[-1][-1].isspace() and line.rstrip(" ").endswith(tokens[-1][-1]):
        tokens[-1] = tokens[-1].rstrip()
    return tokens


def _read(text: str, start: int, end: int, closed: Mapping[str, Sequence[str]]) -> list[str]:
    """Read the tokens that begin between two positions."""
    tokens: list[str] = []
    while start < end:
        space = text.find(" ", start, end)
        stop = space if space >= 0 else end
        known = closed.get(text[start:stop])
        if known is None:
            token, start = next_token(text, start)
            known = [token] if token and token not in PUNCTUATION else []
        else:
            start = skip_spaces(text, stop)
        tokens += known
    return tokens
