"""Images in HTML: only the inside of ``<img>`` tags is changed."""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser

from captioner.errors import CaptionerError
from captioner.sidecars.alt_texts import Image, Page

_CHARSET = re.compile(rb"""<meta[^>]*?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""", re.IGNORECASE)
_WHERE_CHARSETS_ARE = 1024
_LATIN = frozenset({"iso8859-1", "ascii"})
"""Encoding names that browsers treat as Windows-1252."""

_ATTRIBUTE = re.compile(r"""[\s/]+([^\s/>=][^\s/>=]*)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s>]*))?""")
_NO_MARKUP = frozenset({"textarea", "title"})
_LAST = "captioner-end-of-page"


def read(content: bytes) -> Page:
    """The page of an HTML file.

    Raises:
        CaptionerError: Its encoding is unknown, or it ends within a tag, a comment or a script.
    """
    encoding = _encoding(content)
    try:
        text = content.decode(encoding)
        if text.encode(encoding) != content or "\0" in text:
            raise ValueError
    except ValueError:
        raise CaptionerError(f"is not HTML in {encoding}; save it as UTF-8") from None
    return Page(text, find_images(text), lambda changed: changed.encode(encoding, "xmlcharrefreplace"))


def find_images(text: str) -> Iterator[Image]:
    """Find the ``<img>`` tags in HTML that are not hidden from screen readers.

    Raises:
        CaptionerError: It ends within a tag, a comment or a script.
    """
    tags = _Tags()
    tags.feed(f"{text}<{_LAST}>")
    tags.close()
    if not tags.is_whole or text.rfind("<!--") > text.rfind("-->"):
        raise CaptionerError("cannot be parsed: it ends within a tag, a comment or a script; fix it")
    lines = [0, *(match.end() for match in re.finditer("\n", text))]
    for line, column, tag, attributes in tags.found:
        start = lines[line - 1] + column
        is_hidden = attributes.get("role") in ("presentation", "none") or attributes.get("aria-hidden") == "true"
        source = attributes.get("src")
        if not text.startswith(tag, start):
            raise CaptionerError(f"cannot be parsed: the tag in line {line} is not where the parser says")
        if source and not is_hidden:
            yield _image(source, tag, start)


class _Tags(HTMLParser):
    """Collects positions of ``<img>`` tags."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[int, int, str, dict[str, str | None]]] = []
        self.is_whole = False
        self._within: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect an ``<img>``, unless it is inside raw text."""
        if tag == _LAST:
            self.is_whole = self._within is None
        elif self._within is None and tag in _NO_MARKUP:
            self._within = tag
        elif self._within is None and tag == "img":
            self.found.append((*self.getpos(), self.get_starttag_text() or "", dict(reversed(attrs))))

    def handle_endtag(self, tag: str) -> None:
        """Leave raw text."""
        if tag == self._within:
            self._within = None


def _image(source: str, tag: str, start: int) -> Image:
    for match in _ATTRIBUTE.finditer(tag, len("<img")):
        if match.group(1).lower() == "alt":
            alt = html.unescape((match.group(2) or "").strip("\"'"))
            space = tag[match.start() : match.start(1)]
            return Image(source, alt, start + match.start(), start + match.end(), partial(_alt, space=space))
    place = start + len("<img")
    return Image(source, None, place, place, _alt)


def _alt(text: str | None, space: str = " ") -> str:
    return "" if text is None else f'{space}alt="{html.escape(text)}"'


def _encoding(content: bytes) -> str:
    """The declared encoding of a page, or UTF-8."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise CaptionerError("is UTF-16, which is not changed here; save it as UTF-8")
    declared = _CHARSET.search(content[:_WHERE_CHARSETS_ARE])
    if content.startswith(codecs.BOM_UTF8) or declared is None:
        return "utf-8"
    try:
        name = codecs.lookup(declared.group(1).decode()).name
    except LookupError:
        raise CaptionerError(f"is in the unknown encoding {declared.group(1).decode()}; save it as UTF-8") from None
    return "cp1252" if name in _LATIN else name
