"""Alternative texts of images in HTML and Markdown: missing or empty ones are filled."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from captioner.data.folders import SUFFIXES
from captioner.errors import CaptionerError
from captioner.sidecars.policy import Captioned
from captioner.sidecars.targets import Target

FORM = "alt"
HTML_ENDS = frozenset({".htm", ".html", ".xhtml"})
MARKDOWN_ENDS = frozenset({".md", ".markdown"})


@dataclass(frozen=True)
class Image:
    """An image in a page.

    Attributes:
        source: Its URL or path in the page.
        alt: Its alternative text; None where there is none.
        start: Index of the first character that a new text replaces.
        end: Index after the last one.
        written: Function from an alternative text to the replacement.
    """

    source: str
    alt: str | None
    start: int
    end: int
    written: Callable[[str | None], str]


class Page:
    """The images of a page with their alternative texts.

    Args:
        text: The page.
        images: Its images, in order.
        encoded: Encodes a changed page.
    """

    written = None

    def __init__(self, text: str, images: Iterable[Image], encoded: Callable[[str], bytes]) -> None:
        self._text = text
        self._encoded = encoded
        self.images: dict[str, Image] = {}
        count: dict[str, int] = {}
        for image in images:
            count[image.source] = number = count.get(image.source, 0) + 1
            self.images[image.source if number == 1 else f"{image.source} ({number})"] = image
        self.texts = {key: image.alt for key, image in self.images.items() if image.alt is not None}

    def with_texts(self, texts: Mapping[str, str | None], captions: Mapping[str, Captioned]) -> bytes:
        """Return the page with other texts."""
        pieces, place = [], 0
        for key, image in sorted(self.images.items(), key=lambda item: item[1].start):
            if key in texts:
                pieces += [self._text[place : image.start], image.written(texts[key])]
                place = image.end
        return self._encoded("".join([*pieces, self._text[place:]]))


def read_page(path: Path, content: bytes | None) -> Page:
    """Parse a page.

    Raises:
        CaptionerError: It cannot be parsed.
    """
    if content is None:
        raise CaptionerError("no such file; check the path")
    if path.suffix.lower() in MARKDOWN_ENDS:
        from captioner.sidecars.markdown_pages import read
    else:
        from captioner.sidecars.html_pages import read
    return read(content)


def find_pages(root: Path) -> Iterator[Path]:
    """Yield the pages below a folder, sorted, without hidden ones; a page is yielded itself."""
    if not root.is_dir():
        if is_page(root):
            yield root
        return
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if is_page(Path(name)) and not name.startswith("."):
                yield Path(folder) / name


def is_page(path: Path) -> bool:
    """Whether a file name is that of a page."""
    return path.suffix.lower() in HTML_ENDS | MARKDOWN_ENDS


def target(page: Path, root: Path) -> Target:
    """Read a page and its images.

    Args:
        page: The page.
        root: The folder that must contain the images; paths that begin with a slash are relative to it.

    Raises:
        CaptionerError: The page cannot be read or parsed.
    """

    def parse(content: bytes | None) -> Page:
        return read_page(page, content)

    found = Target(FORM, page, {}, parse, is_shared=True)
    document = found.document(found.content())
    assert isinstance(document, Page)
    pictures = {key: path for key, image in document.images.items() if (path := _picture(image.source, page, root))}
    return Target(FORM, page, pictures, parse, is_shared=True)


def _picture(source: str, page: Path, root: Path) -> Path | None:
    """Resolve an image of a page; None if it is not a local photograph."""
    try:
        url = urlsplit(source.strip())
        name = unquote(url.path)
    except ValueError:
        return None
    if url.scheme or url.netloc or Path(name).suffix.lower() not in SUFFIXES or "\0" in name:
        return None
    if "{" in name or "<?" in name:  # a template's variable
        return None
    path = Path(os.path.normpath(root / name.lstrip("/") if name.startswith("/") else page.parent / name))
    return path if path.is_relative_to(os.path.normpath(root)) else None
