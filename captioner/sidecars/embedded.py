"""Captions embedded in images, as an XMP packet in JPEG, PNG, WebP and TIFF; all other bytes are kept.

No library with a suitable license edits XMP without rewriting the image, so the four containers are edited here, by
replacing a few byte ranges (`captioner.sidecars.splices`).
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from captioner.errors import CaptionerError
from captioner.sidecars.descriptions import Description, container_of, mapped, reading, words_in
from captioner.sidecars.manifest import NAME, Entry, digest_of, pack, unpack
from captioner.sidecars.policy import Captioned, Slot
from captioner.sidecars.splices import Content, Splice, reverse, splice
from captioner.sidecars.targets import CHANGED, Document, Maker, Row, Target, Write, texts_before
from captioner.sidecars.xmp import ALT_TEXT, DESCRIPTION
from captioner.utils.files import Replacement, replacing

FORM = "embedded"
_FIELDS = (DESCRIPTION, ALT_TEXT)


State: TypeAlias = tuple[int, int, int]
"""A file's inode, size and time, by which changes are told."""


class _Seen(NamedTuple):
    """What was read of an image.

    Attributes:
        state: The file's state when it was read.
        packet: Its XMP packet, if any.
        words: The human description in its metadata, empty if there is none.
    """

    state: State
    packet: bytes | None
    words: str


class Picture(Target):
    """An image with captions in its XMP packet."""

    def __init__(self, path: Path, maker: Maker) -> None:
        self._last: _Seen | None = None
        super().__init__(
            FORM,
            path,
            dict.fromkeys(_FIELDS, path),
            lambda content: Description(content, _FIELDS, maker),
            lambda: {DESCRIPTION: self._seen().words},
        )

    def read(self) -> bytes | None:
        """The XMP packet; None if there is none."""
        return self._seen().packet

    def _seen(self) -> _Seen:
        """Read the image, unless that was done since it was last changed."""
        state = _state(self.path)
        if self._last is None or self._last.state != state:
            with mapped(self.path) as content, _naming(self.path):
                packet = container_of(content).find(content)
                self._last = _Seen(state, packet, words_in(content, packet))
        return self._last

    def is_as_written(self, entry: Entry) -> bool:
        """Whether the image is unchanged since it was written, so that the entry restores it."""
        try:
            with mapped(self.path) as content:
                return _recorded(content, entry) is not None
        except CaptionerError:
            return False

    def undo(self, entry: Entry | None, is_trial: bool) -> Row | None:
        """Undo: restore the original bytes, or remove only our fields if others changed the packet."""
        packet = self.content()
        if packet is None:
            return None
        action, text = "restore", ""
        with mapped(self.path) as content, _naming(self.path):
            splices = None if entry is None else _recorded(content, entry)
            if splices is None:
                back = texts_before(self.document(packet), None)
                if back is None:
                    return None
                if not back:
                    action, text = "changed", CHANGED
                splices = container_of(content).put(content, self.document(packet).with_texts(back, {}))
            if not is_trial:
                with replacing(self.path) as temporary:
                    self._rewrite(content, splices, temporary)
        return Row(action, self.path, text)

    def _compose(
        self,
        content: bytes | None,
        document: Document,
        texts: Mapping[str, str | None],
        captions: Mapping[str, Captioned],
        slots: Mapping[str, Slot],
        old: Entry | None,
    ) -> tuple[Entry, Write]:
        """Write to the image as it was without captions from this program, so that changes do not accumulate."""
        state, packet, _ = self._seen()
        with mapped(self.path) as whole, _naming(self.path):
            undone = None if old is None else _recorded(whole, old)
            base: Content = whole if undone is None else _spliced(whole, undone)
            if undone is not None:
                packet = container_of(base).find(base)
                ours = {key: slot.text for key, slot in slots.items() if slot.ours}
                document, texts = self.document(packet), {**ours, **texts}
            new = document.with_texts(texts, captions)
            assert new is not None
            splices = container_of(base).put(base, new)
            facts = _facts(base, splices, new)

        def write() -> Replacement:
            new = _Unchanged(self.path, state)
            with new.writing() as temporary, mapped(self.path) as whole:
                self._rewrite(whole if undone is None else _spliced(whole, undone), splices, temporary)
            return new

        return facts, write

    def _rewrite(self, content: Content, splices: Sequence[Splice], temporary: Path) -> None:
        """Write the new image to a temporary file, with the times, permissions and owner of the old one."""
        with temporary.open("wb") as file:
            splice(content, splices, file)
        shutil.copystat(self.path, temporary)
        status = self.path.stat()
        with contextlib.suppress(PermissionError):
            os.chown(temporary, status.st_uid, status.st_gid)


class _Unchanged(Replacement):
    """Replaces an image, unless another program has changed it meanwhile."""

    def __init__(self, path: Path, state: State) -> None:
        super().__init__(path)
        self._image, self._state = path, state

    def commit(self) -> None:
        if _state(self._image) != self._state:
            raise CaptionerError(f"{self._image}: was changed by another program meanwhile; run the command again")
        super().commit()


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Prefix errors with the image's name."""
    try:
        yield
    except CaptionerError as error:
        raise CaptionerError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error


def _state(path: Path) -> State:
    with reading(path):
        status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _spliced(content: Content, splices: Sequence[Splice]) -> bytes:
    buffer = io.BytesIO()
    splice(content, splices, buffer)
    return buffer.getvalue()


def _facts(content: Content, splices: Sequence[Splice], packet: bytes) -> Entry:
    """Build the manifest data to restore the image."""
    back = reverse(content, splices)
    ranges = [[each.start, each.end, base64.b85encode(each.new).decode()] for each in back]
    spliced = b"".join(each.new for each in sorted(splices))
    size = len(content) + sum(len(each.new) - (each.end - each.start) for each in splices)
    return {
        "sha256": digest_of(packet),
        "original": pack(json.dumps(ranges).encode()),
        "size": size,
        "spliced": digest_of(spliced),
    }


def _recorded(content: Content, entry: Entry) -> list[Splice] | None:
    """The splices that restore an image; None if it has changed since."""
    try:
        ranges = json.loads(unpack(entry["original"]) or b"")
        splices = [Splice(int(start), int(end), base64.b85decode(new)) for start, end, new in ranges]
    except (ValueError, TypeError, RecursionError):
        raise CaptionerError(f"its entry in {NAME} is damaged") from None
    if len(content) != entry.get("size"):
        return None
    spliced = b"".join(content[each.start : each.end] for each in splices)
    return splices if digest_of(spliced) == entry.get("spliced") else None
