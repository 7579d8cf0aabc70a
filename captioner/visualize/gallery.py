"""A gallery: a page of thumbnails with captions, and a page of maps for each image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from captioner.caption import Caption
from captioner.data.folders import GALLERY_END
from captioner.data.images import ImageSource
from captioner.errors import CaptionerError
from captioner.utils.files import replacing
from captioner.visualize.html_template import escape, render
from captioner.visualize.overlay import load_photograph
from captioner.visualize.page import LONGEST_SIDE, NO_WORDS, draw_page

THUMBNAIL_SIDE = 360
THUMBNAIL_QUALITY = 80


class Photograph(NamedTuple):
    """One entry: name, image and caption."""

    name: str
    image: ImageSource
    caption: Caption


def write_gallery(
    output: Path, photographs: Iterable[Photograph], title: str = "Photographs", measure: str = "attention"
) -> None:
    """Write ``NAME.html``, and next to it the folder ``NAME_files`` with thumbnails and pages.

    An image's files are written immediately; the gallery itself is written last, atomically.

    Args:
        output: The gallery, ``NAME.html``.
        photographs: Its entries, in order.
        title: Its heading.
        measure: Name of what the maps show, such as ``attention``.

    Raises:
        CaptionerError: A file cannot be written, would replace a file of something else, or an image is unreadable or
            has no map.
    """
    folder = output.parent / f"{output.stem}{GALLERY_END}"
    cards: list[str] = []
    waiting: Photograph | None = None
    for photograph in photographs:
        if waiting is not None:
            cards.append(_write(waiting, folder, output.name, len(cards), True, measure))
        waiting = photograph
    if waiting is not None:
        cards.append(_write(waiting, folder, output.name, len(cards), False, measure))
    if not cards:
        raise CaptionerError(f"gallery {output}: there is no photograph to show; give one that can be captioned")
    _remove_rest(folder, len(cards))
    document = render("gallery", title=escape(title), count=f"{len(cards)} photographs", photographs="\n".join(cards))
    with replacing(output) as path:
        path.write_text(document, encoding="utf-8")


def _write(photograph: Photograph, folder: Path, gallery: str, index: int, has_next: bool, measure: str) -> str:
    """Write the files of one image.

    Returns:
        Its card in the gallery, as HTML.
    """
    name, image, caption = photograph
    thumbnail_file = folder / f"{_stem(index)}.jpg"
    page = _page(thumbnail_file)
    if thumbnail_file.exists() and not page.exists():
        raise CaptionerError(f"{thumbnail_file} would be replaced and is of no gallery; name another one to write")
    links = [f'<a href="../{_address(gallery)}">Gallery</a>']
    if index:
        links.append(f'<a rel="prev" href="{_stem(index - 1)}.html">Previous</a>')
    if has_next:
        links.append(f'<a rel="next" href="{_stem(index + 1)}.html">Next</a>')
    picture = load_photograph(image, LONGEST_SIDE)
    document = draw_page(picture, caption, name, measure, f"<nav>{' '.join(links)}</nav>")
    with replacing(page) as path:
        path.write_text(document, encoding="utf-8")
    thumbnail = load_photograph(picture, THUMBNAIL_SIDE)
    with replacing(thumbnail_file) as path:
        thumbnail.save(path, "JPEG", quality=THUMBNAIL_QUALITY)
    target = f"./{_address(folder.name)}/{_stem(index)}"
    return (
        f'<li><a href="{target}.html"><img src="{target}.jpg" width="{thumbnail.width}" height="{thumbnail.height}" '
        f'loading="lazy" decoding="async" alt=""><span class="caption">{escape(caption.text or NO_WORDS)}</span>'
        f'<span class="soft">{escape(name)}</span></a></li>'
    )


def _page(thumbnail: Path) -> Path:
    """Path of an image's page, which is written before its thumbnail and removed after it."""
    return thumbnail.with_suffix(".html")


def _stem(index: int) -> str:
    return f"{index + 1:05}"


def _address(name: str) -> str:
    """Quote a file name, possibly not Unicode, for a URL."""
    return quote(name.encode("utf-8", "surrogateescape"))


def _remove_rest(folder: Path, count: int) -> None:
    """Remove files of an earlier, longer gallery of the same name."""
    while (page := _page(thumbnail := folder / f"{_stem(count)}.jpg")).exists():
        thumbnail.unlink(missing_ok=True)
        page.unlink()
        count += 1
