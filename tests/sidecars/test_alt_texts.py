"""Alternative texts in HTML and Markdown."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from captioner.errors import CaptionerError
from captioner.sidecars import html_pages, markdown_pages
from captioner.sidecars.alt_texts import Page

TEXT = 'a "dog" <b> & a | [cat] *runs* _on_ `grass` \\ é'


def filled(page: Page) -> bytes:
    return page.with_texts({key: TEXT for key, image in page.images.items() if not image.alt}, {})


def restored(read: Callable[[bytes], Page], content: bytes) -> bytes:
    page = read(content)
    again = read(filled(page))
    return again.with_texts({key: image.alt for key, image in page.images.items() if not image.alt}, {})


class _Alts(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.alts: list[str | None] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.alts.append(dict(attrs).get("alt"))


@pytest.mark.parametrize(
    ("html", "alts"),
    [
        ("<img src=a.jpg>", [TEXT]),
        ("<IMG SRC=a.jpg ALT>", [TEXT]),
        ('<img src="a.jpg" alt="" class=x/>', [TEXT]),
        ("<img\n  alt=''\n  src='a>b.jpg'\n>", [TEXT]),
        ('<img src="a.jpg" alt=mine><img src="a.jpg"/>', ["mine", TEXT]),
        ('<img data-alt="" src="a.jpg">', [TEXT]),
        ("<!-- <img src=a.jpg> --><script>x='<img src=a.jpg>'</script><img alt=' ' src=a.jpg>", [" "]),
        ("<textarea><img src=a.jpg></textarea><img src=b.jpg aria-hidden=true>", [None, None]),
        ("<p>1 < 2 &lt;img&gt; <img src=caf&eacute;.jpg>", [TEXT]),
    ],
)
def test_html_tags_get_a_text_that_parsers_read(html: str, alts: list[str | None]) -> None:
    page = html_pages.read(html.encode())
    assert _Alts(filled(page).decode()).alts == alts
    assert html_pages.read(filled(page)).images.keys() == page.images.keys()


@pytest.mark.parametrize(
    "html",
    [
        b"<img src=a.jpg>\r\n<img alt=\"\" src=a.jpg>\r<img src='b.jpg'/>",
        "\ufeff<p>Grüße<img src='é.jpg'>".encode(),
        "<meta charset='iso-8859-1'>Gr\xfc\xdfe \x80<img src=a.jpg>".encode("latin-1"),
        "<meta charset=shift_jis>日本<img src=a.jpg>".encode("shift_jis"),
    ],
)
def test_all_else_in_html_stays_byte_for_byte(html: bytes) -> None:
    assert restored(html_pages.read, html) == html


@pytest.mark.parametrize(
    "html",
    [
        b"<img src=a",
        b"<img src='a",
        b"<!-- <img src=a>",
        b"<script><img src=a>",
        b"<textarea>",
        b"\xff",
        b"\0",
        b"\xff\xfea\0",
    ],
)
def test_html_that_cannot_be_parsed_is_refused(html: bytes) -> None:
    with pytest.raises(CaptionerError):
        html_pages.read(html)


@pytest.mark.parametrize(
    ("markdown", "count"),
    [
        ("![](a.jpg)", 1),
        ('text ![](a.jpg "title") ![mine](b.jpg) ![](<a b.jpg>)', 2),
        ("![][r] ![][r]\n\n[r]: a.jpg", 2),
        ("`![](a.jpg)` ``a ` ![](a.jpg)`` ![](a.jpg)", 1),
        ("```\n![](a.jpg)\n```\n\n    ![](b.jpg)\n\n![](c.jpg)", 1),
        ("| a | b |\n| - | - |\n| ![](a.jpg) | ![](b.jpg) |", 2),
        ("> - ![](a.jpg)\n>   more ![](b(1).jpg)", 2),
        ("[![](a.jpg)](https://example.org) \\![](b.jpg)", 1),
        ("<p>\n<img src=a.jpg>\n</p>\n\nsome <img src='b.jpg' alt=\"\"> text", 2),
        ("<!-- ![](a.jpg) -->\n\n![](\na.jpg\n'title')", 1),
        ("# ![](a.jpg)\n![](b.jpg)\n===", 2),
        ("![](a%20b.jpg)\r\n\r\n![](é.jpg)\r\n", 2),
    ],
)
def test_markdown_pictures_get_a_text_that_parsers_read(markdown: str, count: int) -> None:
    page = markdown_pages.read(markdown.encode())
    empty = len([image for image in page.images.values() if not image.alt])
    assert empty == count
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(filled(page).decode())
    assert _Alts(html).alts.count(TEXT) == count
    assert restored(markdown_pages.read, markdown.encode()) == markdown.encode()


def test_what_cannot_be_told_from_a_picture_is_refused() -> None:
    with pytest.raises(CaptionerError, match="cannot be changed safely"):
        markdown_pages.read(b"> ![](\n> b.jpg)")
