"""Target files of captions: reading, writing and undoing."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeAlias

from captioner.errors import CaptionerError
from captioner.sidecars.manifest import Entry, Manifests, digest_of, pack, unpack
from captioner.sidecars.policy import Captioned, Decision, Policy, Slot
from captioner.utils.files import Replacement, regular_size

CHANGED = "was changed since it was written; the text stays as it is"
LARGEST = 2**28
"""Maximum size of a text file."""


@dataclass(frozen=True)
class Maker:
    """The maker of captions: model name and program version."""

    model: str
    version: str


class Document(Protocol):
    """A parsed file with texts.

    Attributes:
        texts: The text of each filled slot.
        written: The texts that its own mark attributes to this program, and those they replaced; None for forms without
            marks, which use the manifest.
    """

    @property
    def texts(self) -> Mapping[str, str]: ...  # noqa: D102 (see Attributes)

    @property
    def written(self) -> Mapping[str, tuple[str, str | None]] | None: ...  # noqa: D102

    def with_texts(self, texts: Mapping[str, str | None], captions: Mapping[str, Captioned]) -> bytes | None:
        """Return the content with other texts; None if nothing is left.

        Args:
            texts: The new texts by slot; None removes one.
            captions: The captions they come from; without any, marks are removed, too.
        """
        ...


Parse: TypeAlias = Callable[[bytes | None], Document]
"""Parses a file's content, None for a missing file; raises CaptionerError."""


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes:
        action: An action of `Decision`, or ``remove``, ``restore`` or ``changed`` for undo, or ``error``.
        path: The file.
        text: The written text, or the error.
        slot: The image, in a file of several.
    """

    action: str
    path: Path
    text: str = ""
    slot: str = ""


Write: TypeAlias = Callable[[], Replacement | None]
"""Writes a new file, which then has to take the place of the old one; None where the old one is removed."""


@dataclass(frozen=True)
class Change:
    """A planned write.

    Attributes:
        rows: Lines of the report.
        entry: The manifest entry to append first; None for no change.
        write: Writes the file; None for no change.
    """

    rows: list[Row]
    entry: Entry | None = None
    write: Write | None = None


class Target:
    """A file with slots for captions.

    Args:
        form: The form's name.
        path: The file.
        pictures: The image of each slot.
        parse: Parses its content.
        elsewhere: Human text for the same images elsewhere, by slot.
        is_shared: Whether it is for several images, which its report lists separately.
    """

    def __init__(
        self,
        form: str,
        path: Path,
        pictures: Mapping[str, Path],
        parse: Parse,
        elsewhere: Callable[[], Mapping[str, str]] | None = None,
        is_shared: bool = False,
    ) -> None:
        self.form = form
        self.path = path
        self.pictures = pictures
        self._parse = parse
        self._elsewhere = elsewhere
        self.is_shared = is_shared

    def read(self) -> bytes | None:
        """Read the content with the captions; None if there is none.

        Raises:
            CaptionerError: They cannot be read.
        """
        return read_file(self.path)

    @cached_property
    def _words_elsewhere(self) -> Mapping[str, str]:
        return self._elsewhere() if self._elsewhere else {}

    def content(self) -> bytes | None:
        """Read the content with the captions, for writing.

        Raises:
            CaptionerError: It cannot be read or must not be written.
        """
        refuse_link_or_read_only(self.path)
        return self.read()

    def slots(self, manifests: Manifests) -> dict[str, Slot]:
        """The slots with their content."""
        content = self.content()
        return self._slots(content, self.document(content), manifests)

    def document(self, content: bytes | None) -> Document:
        """The parsed content.

        Raises:
            CaptionerError: It is damaged, or of another kind.
        """
        try:
            return self._parse(content)
        except CaptionerError as error:
            raise CaptionerError(f"{self.path}: {error}") from error

    def change(self, captions: Mapping[str, Captioned], policy: Policy, manifests: Manifests, maker: Maker) -> Change:
        """Decide what to write into slots.

        Raises:
            CaptionerError: The file cannot be read or must not be written.
        """
        content = self.content()
        document = self.document(content)
        slots = self._slots(content, document, manifests)
        decisions = {key: policy.decide(slots[key], caption) for key, caption in captions.items()}
        rows = [self._row(key, decision, slots[key], captions[key]) for key, decision in decisions.items()]
        texts: dict[str, str | None] = {key: d.text for key, d in decisions.items() if d.text is not None}
        old = manifests.entry(self.form, self.path, content)
        gone = self._gone(document, old)
        if not texts and not gone:
            return Change(rows)
        used = {key: caption for key, caption in captions.items() if key in texts}
        kept = {
            key: slot
            for key, slot in (old or {}).get("slots", {}).items()
            if key not in gone and document.texts.get(key) == slot["text"]
        }
        entry: Entry = {"form": self.form, "file": self.path.name, "slots": kept}
        if not self.is_shared:
            entry["picture"] = next(iter(self.pictures.values())).name
        for key, text in texts.items():
            before = slots[key].before if slots[key].ours else slots[key].text
            entry["slots"][key] = {"text": text, "before": before} | _facts(maker, captions[key])
        facts, write = self._compose(content, document, {**texts, **dict.fromkeys(gone)}, used, slots, old)
        return Change(rows, entry | facts, write)

    def is_as_written(self, entry: Entry) -> bool:
        """Whether the file is unchanged since it was written."""
        try:
            content = self.read()
        except CaptionerError:
            return False
        return content is not None and bool(digest_of(content) == entry["sha256"])

    def version(self, manifests: Manifests) -> Entry | None:
        """The entry that matches the file's content exactly; None if there is none.

        Raises:
            CaptionerError: The file cannot be read.
        """
        content = self.read()
        entry = manifests.entry(self.form, self.path, content)
        return entry if content is not None and entry and entry["sha256"] == digest_of(content) else None

    def undo(self, entry: Entry | None, is_trial: bool) -> Row | None:
        """Undo what was written.

        Args:
            entry: The file's manifest entry, if any.
            is_trial: Whether this is a dry run.

        Returns:
            The planned change; None if the file has no text of ours.

        Raises:
            CaptionerError: The file cannot be read or written.
        """
        content = self.content()
        if content is None:
            return None
        action = text = ""
        if entry is not None and digest_of(content) == entry["sha256"]:
            original, modified = unpack(entry["original"]), entry.get("modified")
        elif entry is not None and content == unpack(entry["original"]):
            return None  # the process ended before it wrote the file
        else:
            document = self.document(content)
            back = texts_before(document, entry)
            if back is None:
                return None
            original, modified = document.with_texts(back, {}), None
            if not back:
                action, text = "changed", CHANGED
        if not is_trial and original != content and (new := self._write(original, modified)):
            new.finish()
        return Row(action or ("remove" if original is None else "restore"), self.path, text)

    def _slots(self, content: bytes | None, document: Document, manifests: Manifests) -> dict[str, Slot]:
        written = document.written
        if written is None:
            entry = manifests.entry(self.form, self.path, content)
            written = _written(entry)
        slots = {}
        for key in self.pictures:
            text, before = written.get(key, (None, None))
            slots[key] = Slot.of(document.texts.get(key), text, before, self._words_elsewhere.get(key, ""))
        return slots

    def _row(self, key: str, decision: Decision, slot: Slot, caption: Captioned) -> Row:
        text = decision.text or (caption.text if decision.action == "unsure" else slot.text or slot.words)
        return Row(decision.action, self.path, text, key if self.is_shared else "")

    def _gone(self, document: Document, entry: Entry | None) -> list[str]:
        """Our slots of deleted images."""
        return []

    def _compose(
        self,
        content: bytes | None,
        document: Document,
        texts: Mapping[str, str | None],
        captions: Mapping[str, Captioned],
        slots: Mapping[str, Slot],
        old: Entry | None,
    ) -> tuple[Entry, Write]:
        """Build the manifest data to restore the file, and the function that writes the new one."""
        new = document.with_texts(texts, captions)
        facts: Entry
        if old is not None and content is not None and digest_of(content) == old["sha256"]:
            facts = {"original": old["original"], "modified": old.get("modified")}
        else:
            ours = {key: slot.before for key, slot in slots.items() if slot.ours}
            modified = self.path.stat().st_mtime_ns if content is not None and not ours else None
            facts = {"original": pack(document.with_texts(ours, {}) if ours else content), "modified": modified}
        return facts | {"sha256": digest_of(new or b"")}, lambda: self._write(new)

    def _write(self, content: bytes | None, modified: int | None = None) -> Replacement | None:
        """Write a new file, as `Write` does."""
        if content is None:
            self.path.unlink(missing_ok=True)
            return None
        new = Replacement(self.path)
        with new.writing() as temporary:
            temporary.write_bytes(content)
            if modified is not None:
                os.utime(temporary, ns=(modified, modified))
        return new


def read_file(path: Path) -> bytes | None:
    """Read a file; None if it is missing.

    Raises:
        CaptionerError: It cannot be read, or is too large.
    """
    try:
        if regular_size(path) > LARGEST:
            raise CaptionerError(f"{path}: has more than {LARGEST:,} bytes")
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CaptionerError(f"{path}: cannot be read: {error.strerror or error}") from error


def refuse_link_or_read_only(path: Path) -> None:
    """Refuse to replace protected files and links.

    Raises:
        CaptionerError: It is a symbolic link, is not a regular file, or has no write permission.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise CaptionerError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISLNK(mode):
        raise CaptionerError(f"{path}: is a link, which is not written through; name the file that it leads to")
    if not stat.S_ISREG(mode):
        raise CaptionerError(f"{path}: is not a regular file; move it away")
    if not mode & 0o222 or not os.access(path, os.W_OK):
        raise CaptionerError(f"{path}: is read-only; make it writable, or leave it out")


def _facts(maker: Maker, caption: Captioned) -> dict[str, object]:
    return {"model": maker.model, "confidence": caption.confidence, "log_probability": caption.log_probability}


def _written(entry: Entry | None) -> dict[str, tuple[str, str | None]]:
    slots = entry["slots"] if entry else {}
    return {key: (slot["text"], slot.get("before")) for key, slot in slots.items()}


def texts_before(document: Document, entry: Entry | None) -> dict[str, str | None] | None:
    """Earlier texts of unchanged slots; None if nothing was written."""
    written = document.written if document.written is not None else _written(entry)
    if not written:
        return None
    return {key: before for key, (text, before) in written.items() if document.texts.get(key) == text}
