"""Fetching large files so that nothing wrong is kept and nothing is fetched twice.

A download grows in ``NAME.part`` beside its final place and goes on where it broke off (HTTP Range, RFC 9110, section
14). It gets its name only when its checksum is the published one.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from captioner.errors import CaptionerError

CHUNK = 1 << 20
"""Bytes read at a time."""

TIMEOUT = 30
"""Seconds of silence after which a connection counts as lost."""

ATTEMPTS = 6
"""Connections in a row that may bring nothing before the download is given up."""

PASSING = (408, 425, 429, 500, 502, 503, 504)
"""HTTP answers that may change when asked again."""


@dataclass(frozen=True)
class Archive:
    """A published zip file.

    Attributes:
        url: Where it is published.
        size: Bytes, rounded where no exact size is published: for people and for the free room, not a check.
        algorithm: ``sha256`` or ``md5``: what its checksum was published in.
        digest: The published checksum in hexadecimal.
        into: Folder for its files, relative to that of the data set.
    """

    url: str
    size: int
    algorithm: str
    digest: str
    into: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]


class CutError(Exception):
    """A connection ended before the file did; asking for the rest may help."""


def fetch(archive: Archive, folder: Path, base_url: str | None = None, pause: float = 1.0) -> Path:
    """Returns the archive's file in ``folder``; downloads it, or the rest of it, where it is not there yet.

    Args:
        archive: What to fetch.
        folder: Where it goes; a file that was put there by hand is used.
        base_url: Another place to fetch it from, without the file's name.
        pause: Seconds before the second attempt; doubled with each that brings nothing.

    Raises:
        CaptionerError: The place cannot be reached, does not have it, or gives something else; the disk is full.
    """
    target = folder / archive.name
    url = archive.url if base_url is None else f"{base_url.rstrip('/')}/{archive.name}"
    part = folder / f"{archive.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            _require_room(archive, folder, part)
            _download(url, part, pause)
            if _digest(part, archive.algorithm) == archive.digest:
                part.replace(target)
                return target
            part.unlink()
            raise CaptionerError(
                f"{url} is not the published file (another {archive.algorithm}) and was deleted: run this again, or "
                f"put the file of {archive.url} at {target}"
            )
        if _digest(target, archive.algorithm) != archive.digest:
            raise CaptionerError(
                f"{target} is not the published file (another {archive.algorithm}): delete it and run this again, or "
                f"put the file of {archive.url} there"
            )
    except (urllib.error.URLError, http.client.HTTPException, CutError, ValueError) as error:
        # An HTTPError's own text has the number; a plain URLError's only wraps the reason.
        reason = error.reason if type(error) is urllib.error.URLError else error
        raise CaptionerError(
            f"cannot fetch {url} ({reason}): run this again where there is internet, or fetch {archive.name} "
            f"({readable(archive.size)}) by other means and put it at {target}, or its unpacked files into "
            f"{folder / archive.into}"
        ) from error
    except OSError as error:
        raise CaptionerError(f"cannot use {folder}: {error.strerror or error}; choose another --folder") from error
    return target


def _require_room(archive: Archive, folder: Path, part: Path) -> None:
    free = shutil.disk_usage(folder).free + (part.stat().st_size if part.exists() else 0)
    # The zip file and about as much again for what is in it.
    if free < 2 * archive.size:
        raise CaptionerError(
            f"{archive.name} and its files need {readable(2 * archive.size)}, and {folder} has {readable(free)} left: "
            "make room or choose another --folder"
        )


def _download(url: str, part: Path, pause: float) -> None:
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            return _continue(url, part)
        except CutError:
            progress = part.exists() and part.stat().st_size > before
            failures = 0 if progress else failures + 1
            if failures == ATTEMPTS:
                raise
            time.sleep(0 if progress else pause * 2 ** (failures - 1))


def _continue(url: str, part: Path) -> None:
    """Fetches what is missing of ``part`` over one connection.

    Raises:
        CutError: The connection broke; what came is kept.
        URLError: The server cannot be reached, or will not give the file.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "captioner", "Range": f"bytes={have}-"})
    if request.type not in ("http", "https"):
        raise ValueError("only http and https are spoken")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            # Nothing lies beyond what is here: either that is all, or it is of another, longer file.
            if error.headers.get("Content-Range", "") == f"bytes */{have}":
                return
            part.unlink(missing_ok=True)
            raise CutError("the file there is shorter than what was fetched before") from error
        if error.code in PASSING:
            raise CutError(f"HTTP {error.code} {error.reason}") from error
        raise
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError | ConnectionResetError):
            raise CutError(str(error.reason)) from error
        raise
    except (ConnectionError, TimeoutError) as error:
        raise CutError(str(error)) from error
    with response:
        partial = response.status == http.client.PARTIAL_CONTENT
        if partial and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise http.client.HTTPException(f"Content-Range {response.headers.get('Content-Range')} was not asked for")
        start = have if partial else 0
        length = response.headers.get("Content-Length")
        end = start + int(length) if length is not None else None
        # A server without ranges sends all of it again.
        with part.open("ab" if partial else "wb") as file:
            _copy(response, file, start, end, part.stem)


def _copy(response: http.client.HTTPResponse, file: BinaryIO, start: int, end: int | None, name: str) -> None:
    done, told = start, time.monotonic()
    while True:
        try:
            block = response.read(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise CutError(str(error)) from error
        if not block:
            break
        file.write(block)
        done += len(block)
        if sys.stderr.isatty() and time.monotonic() - told > 1:
            told = time.monotonic()
            share = f" of {readable(end)}" if end else ""
            print(f"\r{name}: {readable(done)}{share} ", end="", file=sys.stderr)
    if end is not None and done < end:
        raise CutError(f"cut off after {done} of {end} bytes")


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def readable(size: int) -> str:
    """A number of bytes for people, such as "13.5 GB" (10^9 bytes)."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
