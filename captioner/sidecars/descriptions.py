"""Descriptions of an image in XMP, in a sidecar file or embedded."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import IO, cast

from PIL import Image, IptcImagePlugin

import captioner.data.images  # noqa: F401 (keeps Pillow from telling of damaged files)
from captioner.errors import CaptionerError
from captioner.sidecars import jpeg, png, tiff, webp
from captioner.sidecars.policy import Captioned
from captioner.sidecars.targets import Maker
from captioner.sidecars.xmp import DESCRIPTION, IMAGE_DESCRIPTION, Mark, Packet
from captioner.utils.files import regular_size

_EXIF_DESCRIPTION = 270
_IPTC_CAPTION = (2, 120)
_OF_CAMERAS = frozenset(
    {"olympus digital camera", "sony dsc", "minolta digital camera", "konica minolta digital camera", "dcim"}
    | {"samsung digital camera", "samsung camera pictures", "digital camera", "exif_jpeg_picture"}
)
"""Placeholders that cameras write as description, in lower case."""


class Description:
    """An XMP packet with description fields.

    Args:
        content: The packet; None for a new one.
        fields: The fields to write.
        maker: The model and program version that made the captions.
    """

    def __init__(self, content: bytes | None, fields: Sequence[str], maker: Maker) -> None:
        self._packet = Packet(content)
        self._maker = maker
        self.texts: Mapping[str, str] = self._packet.texts
        mark = self._packet.mark
        self._mark = mark
        self.written: Mapping[str, tuple[str, str | None]] = (
            {name: (text, mark.before.get(name)) for name, text in mark.texts.items()} if mark else {}
        )

    def with_texts(self, texts: Mapping[str, str | None], captions: Mapping[str, Captioned]) -> bytes | None:
        """Return the packet with other texts and a provenance mark; without captions, without the mark."""
        if not captions:
            return self._packet.with_texts(texts, None)
        written = {name: each for name, each in self.written.items() if self.texts.get(name) == each[0]}
        for name, text in texts.items():
            assert text is not None
            before = written[name][1] if name in written else self.texts.get(name)
            written[name] = (text, before)
        caption = next(iter(captions.values()))
        all_texts = {name: text for name, (text, _) in written.items()}
        before_them = {name: before for name, (_, before) in written.items() if before is not None}
        mark = Mark(self._maker.model, self._maker.version, caption.confidence, all_texts, before_them)
        return self._packet.with_texts(texts, mark)


def container_of(content: bytes | mmap.mmap) -> ModuleType:
    """Choose the XMP editor of an image format.

    Raises:
        CaptionerError: The format is not supported.
    """
    start = bytes(content[:12])
    if start.startswith(jpeg.SIGNATURE):
        return jpeg
    if start.startswith(png.SIGNATURE):
        return png
    if start[:4] == b"RIFF" and start[8:] == b"WEBP":
        return webp
    if start.startswith(tiff.SIGNATURES):
        return tiff
    raise CaptionerError("is not a JPEG, PNG, WebP or TIFF, in which captions can be embedded; write an XMP sidecar")


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """Open a file for reading on demand.

    Raises:
        CaptionerError: It cannot be read.
    """
    with reading(path):
        regular_size(path)
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with content:
        yield content


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Tell in one line, as a `CaptionerError`, why a file cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise CaptionerError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:
        raise CaptionerError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def words_in_picture(path: Path) -> str:
    """Read a human description embedded in an image; empty if there is none, or if it cannot be read."""
    with contextlib.suppress(CaptionerError), mapped(path) as content:
        packet = None
        with contextlib.suppress(CaptionerError):  # without XMP, or damaged: other fields may have a description
            packet = container_of(content).find(content)
        return words_in(content, packet)
    return ""


def words_in(content: mmap.mmap, packet: bytes | None) -> str:
    """Read a human description embedded in an image: in XMP, EXIF, IPTC, or a PNG's text; empty if there is none.

    Args:
        content: The image's file.
        packet: Its XMP, if any.
    """
    with contextlib.suppress(CaptionerError):
        if packet and (words := words_in_packet(packet)):
            return words
    # Pillow's plug-ins raise almost anything for damaged files.
    with contextlib.suppress(Exception), Image.open(cast(IO[bytes], content)) as image:
        found = [image.getexif().get(_EXIF_DESCRIPTION), image.info.get("Description")]
        iptc = IptcImagePlugin.getiptcinfo(image) or {}
        found.append(iptc.get(_IPTC_CAPTION))
        return next(filter(None, map(_words, found)), "")
    return ""


def words_in_packet(content: bytes) -> str:
    """Read a human description from a packet; empty if there is none."""
    packet = Packet(content)
    ours = packet.mark.texts if packet.mark else {}
    for name in (DESCRIPTION, IMAGE_DESCRIPTION):
        text = packet.texts.get(name)
        before = packet.mark.before.get(name) if packet.mark else None
        words = _words(before if text is not None and text == ours.get(name) else text)
        if words:
            return words
    return ""


def _words(value: object) -> str:
    if isinstance(value, list):  # IPTC fields can be repeated
        return next(filter(None, map(_words, value)), "")
    text = _decoded(value) if isinstance(value, bytes) else value if isinstance(value, str) else ""
    words = text.strip("\0 \t\r\n")
    return "" if words.lower() in _OF_CAMERAS else words


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
