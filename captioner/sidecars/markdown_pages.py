"""Images in Markdown: ``![](photo.jpg)``, ``![][name]`` and ``<img>`` tags.

markdown-it reports the images of a document with lines, but not columns. So they are searched in those lines and
compared with its result, and a changed document is parsed again to check that only alternative texts have changed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from captioner.errors import CaptionerError
from captioner.sidecars import html_pages
from captioner.sidecars.alt_texts import Image, Page

_PARSER = MarkdownIt("commonmark").enable("table")
_IMAGE = re.compile(
    r"""(?<!\\)!\[(?P<alt>(?:[^\[\]\\]|\\.)*)\]
        (?:\((?:[^()\\]|\\.|\((?:[^()\\]|\\.)*\))*\)|\[[^\[\]]*\])?""",
    re.VERBOSE | re.DOTALL,
)
_CODE = re.compile(r"(?<![`\\])(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_SPECIAL = re.compile(r"([\\`*_\[\]<>&!~#])")
_UNSAFE = "cannot be changed safely: its pictures cannot be told from other text; write their texts by hand"


def read(content: bytes) -> Page:
    """The page of a Markdown file.

    Raises:
        CaptionerError: It is not UTF-8, or its images cannot be located.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise CaptionerError("is not UTF-8 text; save it as UTF-8") from None
    if "\0" in text:
        raise CaptionerError("is not text: it has NUL characters")
    env: dict[str, Any] = {}
    tokens = _PARSER.parse(text, env)

    def encoded(changed: str) -> bytes:
        if _shape(_PARSER.parse(changed)) != _shape(tokens):
            raise CaptionerError(_UNSAFE)
        return changed.encode()

    return Page(text, _images(text, tokens, env), encoded)


def _images(text: str, tokens: Sequence[Token], env: dict[str, Any]) -> Iterator[Image]:
    lines = [0, *(match.end() for match in re.finditer("\r\n|\n|\r", text)), len(text)]
    blocks: dict[tuple[int, int], list[Token]] = {}
    for token in tokens:
        if token.map is not None and token.type in ("inline", "html_block"):
            first, last = token.map
            start, end = lines[first], lines[min(last, len(lines) - 1)]
            if token.type == "html_block":
                yield from _moved(html_pages.find_images(text[start:end]), start)
            else:
                blocks.setdefault((start, end), []).extend(token.children or [])
    for (start, end), children in blocks.items():
        yield from _in_lines(text[start:end], start, children, env)


def _in_lines(text: str, start: int, children: Sequence[Token], env: dict[str, Any]) -> Iterator[Image]:
    """Find the images in lines of a paragraph, a heading, or a table row."""
    place = 0
    for token in children:
        if token.type == "html_inline" and token.content.lower().startswith("<img"):
            place = text.find(token.content, place)
            if place < 0:
                raise CaptionerError(_UNSAFE)
            yield from _moved(html_pages.find_images(token.content), start + place)
            place += len(token.content)
    wanted = Counter((str(token.attrs["src"]), token.content) for token in children if token.type == "image")
    if not wanted:
        return
    code = [match.span() for match in _CODE.finditer(text)]
    found = []
    for match in _IMAGE.finditer(text):
        if any(first <= match.start() < last for first, last in code):
            continue
        [parsed] = _PARSER.parseInline(match.group(), env)
        images = [token for token in parsed.children or [] if token.type == "image"]
        if images:
            key = (str(images[0].attrs["src"]), images[0].content)
            alt = RendererHTML().renderInlineAsText(images[0].children, _PARSER.options, env)
            found.append((key, alt, match))
    empty = {key: count for key, count in wanted.items() if not key[1]}
    if Counter(key for key, _, _ in found if not key[1]) != empty:
        raise CaptionerError(_UNSAFE)
    for key, alt, match in found:
        if key in wanted:
            first, last = match.span("alt")
            yield Image(key[0], alt, start + first, start + last, _escaped)


def _moved(images: Iterator[Image], start: int) -> Iterator[Image]:
    for image in images:
        yield Image(image.source, image.alt, start + image.start, start + image.end, image.written)


def _escaped(text: str | None) -> str:
    return _SPECIAL.sub(r"\\\1", text or "").replace("|", "&#124;")  # in a table, \\| would end the cell, too


def _shape(tokens: Sequence[Token]) -> list[object]:
    """A document without the alternative texts of its images."""
    shape: list[object] = []
    for token in tokens:
        children = [
            (child.type, child.attrs.get("src"), "" if child.type in ("image", "html_inline") else child.content)
            for child in token.children or []
        ]
        has_text = token.type not in ("inline", "html_block")
        shape.append((token.type, token.map, token.content if has_text else "", children))
    return shape
