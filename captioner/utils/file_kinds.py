"""Identify file kinds by content, for messages about unusable files."""

from __future__ import annotations

import re
from typing import NamedTuple

LOOKED_AT = 1 << 16
"""Bytes at the start and at the end of a file that identify its kind."""


class FileKind(NamedTuple):
    """A kind of file.

    Attributes:
        name: The kind, with its article.
        cure: Cure if an image, a checkpoint or similar is expected; empty if there is none.
        as_text: Cure if captions are expected, if different.
    """

    name: str
    cure: str = ""
    as_text: str = ""

    def tell(self, otherwise: str, as_text: bool = False) -> str:
        """The kind and the cure.

        Args:
            otherwise: Default cure.
            as_text: Whether text is expected.
        """
        return f"is {self.name}: {(self.as_text if as_text else '') or self.cure or otherwise}"


_TABLE = "save it as CSV UTF-8"
_COLUMNS = "write it as CSV or JSON lines"
_UNPACK = "unpack it and give the files in it"

EMPTY = FileKind("empty", "get it again")
_WEB_PAGE = FileKind("a web page", "download the file itself, not the page about it")
_POINTER = FileKind("a Git LFS pointer", "git lfs pull fetches the file itself")
_EXCEL = FileKind("an Excel workbook", as_text=_TABLE)
_ZIP = FileKind("a zip archive", _UNPACK)
_VIDEO = FileKind("a video", "save a frame of it as an image")
_AUDIO = FileKind("a sound file")

_STARTS: tuple[tuple[bytes, FileKind], ...] = (
    (b"version https://git-lfs.github.com/spec/", _POINTER),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileKind("a workbook or document of an old Office", as_text=_TABLE)),
    (b"PAR1", FileKind("a Parquet file", as_text=_COLUMNS)),
    (b"ARROW1", FileKind("an Arrow file", as_text=_COLUMNS)),
    (b"\xff\xff\xff\xff", FileKind("an Arrow stream", as_text=_COLUMNS)),
    (b"SQLite format 3\0", FileKind("an SQLite database", as_text=_COLUMNS)),
    (b"\x89HDF\r\n\x1a\n", FileKind("an HDF5 file", as_text=_COLUMNS)),
    (b"\x93NUMPY", FileKind("a NumPy array", "save it as an image", _COLUMNS)),
    (b"\x1f\x8b", FileKind("a gzip archive", _UNPACK)),
    (b"BZh", FileKind("a bzip2 archive", _UNPACK)),
    (b"\xfd7zXZ\0", FileKind("an xz archive", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", FileKind("a Zstandard archive", _UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", FileKind("a 7z archive", _UNPACK)),
    (b"Rar!\x1a\x07", FileKind("a RAR archive", _UNPACK)),
    (b"%PDF-", FileKind("a PDF document", "save its pages as images", _TABLE)),
    (b"{\\rtf", FileKind("an RTF document", as_text="save it as plain text, UTF-8")),
    (b"\x1aE\xdf\xa3", _VIDEO),
    (b"ID3", _AUDIO),
    (b"OggS", _AUDIO),
    (b"\xff\xd8\xff", FileKind("a JPEG image")),
    (b"\x89PNG\r\n\x1a\n", FileKind("a PNG image")),
    (b"GIF8", FileKind("a GIF image")),
    (b"II*\0", FileKind("a TIFF image")),
    (b"MM\0*", FileKind("a TIFF image")),
)

_ZIP_MEMBERS: tuple[tuple[bytes, FileKind], ...] = (
    (b"xl/workbook", _EXCEL),
    (b"opendocument.spreadsheet", FileKind("an OpenDocument spreadsheet", as_text=_TABLE)),
    (b"word/document", FileKind("a Word document", as_text="save it as plain text, UTF-8")),
    (b"opendocument.text", FileKind("an OpenDocument text", as_text="save it as plain text, UTF-8")),
    (b"ppt/presentation", FileKind("a PowerPoint presentation", "save its slides as images")),
    (b".npy", FileKind("a NumPy archive", "save its arrays as images", _COLUMNS)),
    (b"data.pkl", FileKind("a file of torch.save")),
    (b"[Content_Types].xml", FileKind("an Excel workbook or another file of Office", as_text=_TABLE)),
)
"""Kinds of zip archives by the names of their members."""

_PICKLE = re.compile(rb"\x80[\x02-\x05][\x00-\xff]", re.DOTALL)
_HTML = re.compile(
    rb"\s*(<!doctype html|<html|<head|<body|(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<!?(doctype )?html)", re.I | re.S
)
_SVG = re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!doctype svg[^>]*>\s*)?<svg", re.I | re.S)
_XML = re.compile(rb"\s*<\?xml")
_VIDEO_BRANDS = re.compile(rb"isom|iso[2-9]|mp4[12]|avc1|qt  |M4V|3gp|dash|MSNV")


def identify(start: bytes, end: bytes = b"") -> FileKind | None:
    """Identify the kind of a file; None if unknown.

    Args:
        start: Its first `LOOKED_AT` bytes, or all.
        end: Its last bytes, for archives with a directory at the end.
    """
    if not start.strip(b"\0 \t\r\n\xef\xbb\xbf\xff\xfe"):
        return EMPTY if len(start) < LOOKED_AT else None
    if start.startswith(b"PK\x03\x04"):
        return next((kind for name, kind in _ZIP_MEMBERS if name in start or name in end), _ZIP)
    text = start.removeprefix(b"\xef\xbb\xbf")
    if _HTML.match(text):
        return _WEB_PAGE
    if _SVG.match(text):
        return FileKind("an SVG drawing", "save it as PNG")
    if _XML.match(text):
        return FileKind("an XML document")
    if start[257:262] == b"ustar":
        return FileKind("a tar archive", _UNPACK)
    if start[4:8] in (b"ftyp", b"moov") and (start[4:8] == b"moov" or _VIDEO_BRANDS.match(start[8:12])):
        return _VIDEO
    if start[:4] == b"RIFF" and start[8:12] in (b"AVI ", b"WAVE", b"WEBP"):
        return {b"AVI ": _VIDEO, b"WAVE": _AUDIO, b"WEBP": FileKind("a WebP image")}[start[8:12]]
    if _PICKLE.match(start):
        return FileKind("a pickle", as_text=_COLUMNS)
    return next((kind for magic, kind in _STARTS if start.startswith(magic)), None)


def is_text(start: bytes) -> bool:
    """Whether bytes look like text."""
    try:
        text = start.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # otherwise a truncated character at the end
            return False
        text = start[: error.start].decode("utf-8-sig")
    return all(character.isprintable() or character.isspace() for character in text)
