"""A resumable job that writes captions of many images in several forms."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from captioner.errors import CaptionerError
from captioner.sidecars.manifest import BusyError, Entry, Manifest, Manifests, folders_with_manifest
from captioner.sidecars.policy import Captioned, Policy
from captioner.sidecars.survey import Survey, Wish, clash
from captioner.sidecars.targets import Change, Maker, Row, Target
from captioner.utils.files import Replacement

_BATCH = 64
"""Number of images whose manifest lines are synced together."""

_BATCHES_AHEAD = 4
"""Maximum number of batches that wait to be written."""

_BYTES_TOGETHER = 2**26
"""Files of this size together take the place of the old ones, so that little more of the disk is needed."""

_SYNCED_AT_ONCE = 4
"""Number of files that are synced in parallel, which is but waiting for the disk."""

_IDLE = ("keep", "same", "unsure")


@dataclass(frozen=True)
class _Picture:
    """An image that waits for its caption."""

    path: Path
    modified: int | None
    targets: list[Target]


@dataclass
class _Batch:
    """A batch to write: targets with their captions, and captions for the manifests, by folder."""

    ready: list[tuple[Target, dict[str, Captioned]]] = field(default_factory=list)
    made: dict[Path, list[Entry]] = field(default_factory=dict)


class Job:
    """Writes captions; a context manager.

    Args:
        wish: Inputs and output forms.
        policy: Wording of captions, and rules for replacing texts.
        maker: The model and program version.
        made_with: What captions depend on, such as model and decoding options; captions of an earlier run with the same
            value are reused.
        is_trial: Whether this is a dry run.
        report: Called with each line of the report, from one thread.

    Attributes:
        survey: The images and the target files.

    Raises:
        CaptionerError: An input has neither images nor pages.
    """

    def __init__(
        self, wish: Wish, policy: Policy, maker: Maker, made_with: str, is_trial: bool, report: Callable[[Row], None]
    ) -> None:
        self._policy = policy
        self._maker = maker
        self._made_with = made_with
        self._is_trial = is_trial
        self._report = report
        self._manifests = Manifests()
        self._refused: dict[Path, str] = {}
        self._checked: set[Path] = set()
        try:
            for path in wish.paths:
                self._open(path if path.is_dir() else path.parent)
                for folder in folders_with_manifest(path) if path.is_dir() else ():
                    self._manifest(folder)
            self.survey = Survey(wish, maker, report)
            self._shared = {id(target): (target, self._wanted_slots(target)) for target in self.survey.shared}
        except BaseException:
            self._manifests.close()
            raise
        self._captions: dict[int, dict[str, Captioned]] = {key: {} for key in self._shared}
        self._waiting: deque[_Picture] = deque()
        self._batch = _Batch()
        self._running: deque[Future[list[Row]]] = deque()
        self._thread = ThreadPoolExecutor(1)
        self._syncing = ThreadPoolExecutor(_SYNCED_AT_ONCE)

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._syncing.shutdown()
        self._manifests.close()

    def wanted(self) -> Iterator[Path]:
        """Images that need a caption; `take` expects captions in this order."""
        for picture in self.survey.pictures:
            targets = [target for target in self.survey.targets(picture) if self._wants(target, picture)]
            if not targets:
                continue
            waiting = _Picture(picture, _modified(picture), targets)
            caption = self._remembered(waiting)
            if caption is None:
                self._waiting.append(waiting)
                yield picture
            else:
                self._put(waiting, caption)

    def take(self, result: Captioned | CaptionerError) -> None:
        """Accept the caption of the next image, or its error."""
        picture = self._waiting.popleft()
        if isinstance(result, CaptionerError):
            self._report(Row("error", picture.path, str(result)))
            return
        folder = picture.targets[0].path.parent
        if picture.modified is not None:
            entry = {
                "picture": os.path.relpath(picture.path, folder),
                "modified": picture.modified,
                "made_with": self._made_with,
                "caption": result.text,
                "log_probability": float(result.log_probability),
                "confidence": result.confidence,
            }
            self._batch.made.setdefault(folder, []).append(entry)
        self._put(picture, result)

    def finish(self) -> None:
        """Write the rest, then the files of several images."""
        self._flush()
        self._batch.ready = [(target, self._captions[key]) for key, (target, slots) in self._shared.items() if slots]
        self._flush()
        self._await(0)

    def _open(self, root: Path) -> None:
        """Lock an input folder."""
        try:
            if not self._is_trial and root.is_dir():
                self._manifests.of(root).open()
        except BusyError:
            raise
        except CaptionerError:
            pass  # reported for each file there

    def _wanted_slots(self, target: Target) -> dict[str, list[str]]:
        """Slots of a shared file that need captions, by image; slots with human text are reported."""
        if self._manifest(target.path.parent, target.path) is None:
            return {}
        try:
            slots = target.slots(self._manifests)
        except CaptionerError as error:
            self._report(Row("error", target.path, str(error)))
            return {}
        wanted: dict[str, list[str]] = {}
        for key, slot in slots.items():
            if self._policy.wants(slot):
                wanted.setdefault(os.path.abspath(target.pictures[key]), []).append(key)
            else:
                self._report(Row("keep", target.path, slot.text or "", key))
        return wanted

    def _wants(self, target: Target, picture: Path) -> bool:
        """Whether a target needs an image's caption; errors are reported."""
        if target.is_shared:
            return os.path.abspath(picture) in self._shared[id(target)][1]
        manifest = self._manifest(target.path.parent, target.path)
        if manifest is None:
            return False
        try:
            slots = target.slots(self._manifests)
        except CaptionerError as error:
            self._report(Row("error", target.path, str(error)))
            return False
        entry = manifest.written.get((target.form, target.path.name))
        if entry and entry.get("picture", picture.name) != picture.name:
            other = picture.with_name(entry["picture"])
            if other.exists() and any(slot.ours for slot in slots.values()):
                self._report(clash(target.path, picture, other))
                return False
        if any(self._policy.wants(slot) for slot in slots.values()):
            return True
        self._report(Row("keep", target.path, next(iter(slots.values())).words))
        return False

    def _manifest(self, folder: Path, path: Path | None = None) -> Manifest | None:
        """The locked manifest of a folder; None if that fails, which is reported once."""
        if folder in self._refused:
            return None
        try:
            manifest = self._manifests.of(folder)
            if path is not None and not self._is_trial and folder not in self._checked:
                with manifest.opened():
                    self._checked.add(folder)
        except CaptionerError as error:
            self._refused[folder] = str(error)
            self._report(Row("error", path or folder, str(error)))
            return None
        return manifest

    def _remembered(self, picture: _Picture) -> Captioned | None:
        """The caption of an earlier run."""
        for folder in {target.path.parent for target in picture.targets}:
            made = self._manifests.of(folder).made.get(os.path.relpath(picture.path, folder))
            if made and (made.get("modified"), made.get("made_with")) == (picture.modified, self._made_with):
                return Captioned(made["caption"], made["log_probability"], made["confidence"])
        return None

    def _put(self, picture: _Picture, caption: Captioned) -> None:
        for target in picture.targets:
            if target.is_shared:
                keys = self._shared[id(target)][1][os.path.abspath(picture.path)]
                self._captions[id(target)] |= dict.fromkeys(keys, caption)
            else:
                self._batch.ready.append((target, dict.fromkeys(target.pictures, caption)))
        if max(len(self._batch.ready), sum(map(len, self._batch.made.values()))) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        """Submit the current batch to the writing thread."""
        batch, self._batch = self._batch, _Batch()
        self._running.append(self._thread.submit(self._write, batch))
        self._await(_BATCHES_AHEAD)

    def _await(self, count: int) -> None:
        """Report finished batches, until at most this many are waiting."""
        while self._running and (len(self._running) > count or self._running[0].done()):
            for row in self._running.popleft().result():
                self._report(row)

    def _write(self, batch: _Batch) -> list[Row]:
        rows: list[Row] = []
        changes: list[tuple[Target, Change]] = []
        for target, captions in batch.ready:
            try:
                changes.append((target, target.change(captions, self._policy, self._manifests, self._maker)))
            except CaptionerError as error:
                rows.append(Row("error", target.path, str(error)))
            except OSError as error:  # it was deleted meanwhile
                rows.append(Row("error", target.path, f"{target.path}: {error.strerror or error}"))
        if self._is_trial:
            return rows + [row for target, change in changes for row in _told(target, change)]
        entries = {folder: list(made) for folder, made in batch.made.items()}
        for target, change in changes:
            if change.entry is not None:
                entries.setdefault(target.path.parent, []).append(change.entry)
        full: dict[Path, str] = {}
        for folder, lines in entries.items():
            try:
                self._manifests.of(folder).append(lines)
            except CaptionerError as error:
                full[folder] = str(error)
        pending = [_Pending(target, change, full.get(target.path.parent)) for target, change in changes]
        self._replace(pending)
        return rows + [row for each in pending for row in each.rows()]

    def _replace(self, pending: Sequence[_Pending]) -> None:
        """Write files in steps that many take together.

        Each by itself would change what the file system has just written to its journal, and take twice its time.
        """
        group: list[_Pending] = []
        size = 0
        try:
            for each in pending:
                group.append(each)
                each.attempt(each.write)
                size += each.size
                if size > _BYTES_TOGETHER:
                    self._settle(group)
                    group, size = [], 0
            self._settle(group)
        finally:
            for each in group:
                each.discard()

    def _settle(self, group: Sequence[_Pending]) -> None:
        """Let files that were written take the place of the old ones."""
        list(self._syncing.map(lambda each: each.attempt(each.sync), group))
        for each in group:
            each.attempt(each.commit)


class _Pending:
    """A file that is being written.

    Args:
        target: The file.
        change: What is written.
        refusal: Why its folder has no usable manifest, without which nothing is written.
    """

    def __init__(self, target: Target, change: Change, refusal: str | None) -> None:
        self._target = target
        self._change = change
        self._new: Replacement | None = None
        self._error = f"{target.path}: {refusal}" if refusal and change.write else None

    @property
    def size(self) -> int:
        """Bytes that wait to take the place of the old file."""
        return 0 if self._new is None else self._new.size

    def attempt(self, step: Callable[[], None]) -> None:
        """Take a step, unless an earlier one has failed."""
        if self._error is not None:
            return
        try:
            step()
        except CaptionerError as error:
            self._error = str(error)
        except OSError as error:
            self._error = f"{self._target.path}: {error.strerror or error}"
        if self._error is not None:
            self.discard()

    def write(self) -> None:
        if self._change.write is not None:
            self._new = self._change.write()

    def sync(self) -> None:
        if self._new is not None:
            self._new.sync()

    def commit(self) -> None:
        if self._new is not None:
            self._new.commit()

    def discard(self) -> None:
        if self._new is not None:
            self._new.discard()

    def rows(self) -> Sequence[Row]:
        """The report."""
        if self._error is not None:
            return [Row("error", self._target.path, self._error)]
        return _told(self._target, self._change)


def _told(target: Target, change: Change) -> Sequence[Row]:
    """Report lines of a change; only the most important one for a file of one image."""
    if target.is_shared:
        return change.rows
    return [min(change.rows, key=lambda row: row.action in _IDLE)]


def _modified(picture: Path) -> int | None:
    try:
        return picture.stat().st_mtime_ns
    except (OSError, ValueError):
        return None
