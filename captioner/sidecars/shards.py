"""Captions in WebDataset shards: a tar file in, a tar file with ``.txt`` and ``.json`` for each picture out.

As in WebDataset, a sample consists of the members with the same name up to the first dot of the file name. All other
members are copied unchanged.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from captioner.data.shards import LARGEST_TEXT, MARK, picture_of, split_member
from captioner.errors import CaptionerError
from captioner.sidecars.manifest import Entry, Manifest, Manifests
from captioner.sidecars.policy import Captioned, Decision, Policy, Slot
from captioner.sidecars.targets import CHANGED, Maker, Row, Target
from captioner.sidecars.text_files import TextFile
from captioner.utils.files import regular_size, replacing

FORM = "tar"
_CHUNK = 2**20

Stream: TypeAlias = Callable[[Iterable[bytes]], Iterator[Captioned | CaptionerError]]
"""Captions images, in order."""


@dataclass
class _Sample:
    """The members of a sample, by extension."""

    name: str
    members: dict[str, tarfile.TarInfo] = field(default_factory=dict)

    @property
    def picture(self) -> tarfile.TarInfo | None:
        end = picture_of(self.members)
        return None if end is None else self.members[end]


class Shard(Target):
    """A written shard, to undo it."""

    def __init__(self, path: Path) -> None:
        super().__init__(FORM, path, {}, TextFile, is_shared=True)

    def is_as_written(self, entry: Entry) -> bool:
        """Whether the file is unchanged since it was written."""
        try:
            return bool(_digest(self.path) == entry["sha256"])
        except OSError:
            return False

    def version(self, manifests: Manifests) -> Entry | None:
        """The entry that matches the file's content."""
        versions = manifests.of(self.path.parent).versions
        return versions.get((FORM, self.path.name, _digest(self.path))) if self.path.exists() else None

    def undo(self, entry: Entry | None, is_trial: bool) -> Row | None:
        """Remove the shard, unless it has changed."""
        if entry is None or not self.path.exists():
            return None
        if not self.is_as_written(entry):
            return Row("changed", self.path, CHANGED)
        if not is_trial:
            self.path.unlink()
        return Row("remove", self.path)


class Shards:
    """Writes captioned shards into a folder.

    Args:
        output: The folder; shards keep their names.
        policy: Wording of captions, and rules for replacing texts.
        maker: The model and program version.
        made_with: What captions depend on; shards of an earlier run with the same value are skipped.
        is_trial: Whether this is a dry run.
        report: Called with each line of the report.
    """

    def __init__(
        self, output: Path, policy: Policy, maker: Maker, made_with: str, is_trial: bool, report: Callable[[Row], None]
    ) -> None:
        self._output = output
        self._policy = policy
        self._maker = maker
        self._made_with = f"{made_with} {policy}"
        self._is_trial = is_trial
        self._report = report

    def write(self, shards: Sequence[tuple[Path, Path]], stream: Stream) -> None:
        """Caption shards, given with the paths of their copies relative to the output folder; errors are reported."""
        for source, name in shards:
            target = self._output / name
            try:
                manifest = self._prepared(target.parent)
                try:
                    self._write(source, target, manifest, stream)
                finally:
                    manifest.close()
            except CaptionerError as error:
                self._report(Row("error", source, str(error)))
            except (tarfile.TarError, EOFError) as error:
                self._report(Row("error", source, f"{source}: is a damaged tar file: {error}; get a complete copy"))
            except OSError as error:
                self._report(Row("error", source, f"{source}: cannot be read: {error.strerror or error}"))

    def _prepared(self, folder: Path) -> Manifest:
        if not self._is_trial:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CaptionerError(f"{folder}: cannot be made: {error.strerror or error}") from error
        manifest = Manifest(folder)
        if not self._is_trial:
            manifest.open()
        return manifest

    def _write(self, source: Path, target: Path, manifest: Manifest, stream: Stream) -> None:
        regular_size(source)
        status = source.stat()
        state = [status.st_size, status.st_mtime_ns]
        if target.exists():
            if os.path.samefile(source, target):
                raise CaptionerError(f"{source}: would be replaced by its copy; name another folder to write to")
            entry = manifest.versions.get((FORM, target.name, _digest(target)))
            if entry is None:
                raise CaptionerError(f"{target}: is there already and not as captioner wrote it; move it away")
            if (entry.get("source"), entry.get("made_with")) == (state, self._made_with):
                self._report(Row("same", target))
                return
        with tarfile.open(source, "r:") as tar:
            samples = _samples(tar)
            texts = dict(self._texts(tar, samples, source, target, stream))
            if self._is_trial:
                return
            with replacing(target) as temporary:
                with tarfile.open(temporary, "w:", format=tarfile.PAX_FORMAT) as out:
                    self._copy(tar, out, samples, texts)
                line: Entry = {
                    "form": FORM,
                    "file": target.name,
                    "slots": {},
                    "sha256": _digest(temporary),
                    "original": None,
                }
                manifest.append([line | {"source": state, "made_with": self._made_with}])

    def _texts(
        self, tar: tarfile.TarFile, samples: Sequence[_Sample], source: Path, target: Path, stream: Stream
    ) -> Iterator[tuple[str, tuple[str, Captioned, Slot]]]:
        """The new text of each sample to write, with its caption and the replaced text."""
        waiting: list[tuple[_Sample, Slot]] = []

        def pictures() -> Iterator[bytes]:
            for sample in samples:
                if sample.picture is None:
                    continue
                try:
                    slot = _slot(tar, sample)
                except CaptionerError as error:
                    self._report(Row("error", source, f"{source}: {sample.name}: {error}"))
                    continue
                if self._policy.wants(slot):
                    waiting.append((sample, slot))
                    yield _content(tar, sample.picture)
                else:
                    self._report(Row("keep", target, slot.words, sample.name))

        for number, result in enumerate(stream(pictures())):
            sample, slot = waiting[number]
            if isinstance(result, CaptionerError):
                self._report(Row("error", source, f"{source}: {sample.name}: {result}"))
                continue
            decision: Decision = self._policy.decide(slot, result)
            self._report(Row(decision.action, target, decision.text or slot.text or result.text, sample.name))
            if decision.text is not None:
                yield sample.name, (decision.text, result, slot)

    def _copy(
        self,
        tar: tarfile.TarFile,
        out: tarfile.TarFile,
        samples: Sequence[_Sample],
        texts: Mapping[str, tuple[str, Captioned, Slot]],
    ) -> None:
        for sample in samples:
            new = self._members(tar, sample, *texts[sample.name]) if sample.name in texts else {}
            for end, member in sample.members.items():
                if end in new:
                    _add(out, member, new.pop(end))
                else:
                    out.addfile(member, tar.extractfile(member) if member.isreg() else None)
            for end, content in new.items():
                picture = sample.picture
                assert picture is not None
                member = tarfile.TarInfo(f"{sample.name}.{end}")
                member.mtime, member.mode, member.uid, member.gid = (
                    picture.mtime,
                    picture.mode,
                    picture.uid,
                    picture.gid,
                )
                member.uname, member.gname = picture.uname, picture.gname
                _add(out, member, content)

    def _members(
        self, tar: tarfile.TarFile, sample: _Sample, text: str, caption: Captioned, slot: Slot
    ) -> dict[str, bytes]:
        """The text and the JSON facts of a sample."""
        mark = {
            "caption": text,
            "before": slot.before if slot.ours else slot.text,
            "model": self._maker.model,
            "version": self._maker.version,
            "confidence": caption.confidence,
            "log_probability": caption.log_probability,
        }
        facts = _facts(tar, sample)
        facts = {"caption": text, MARK: mark} if facts is None else facts | {MARK: mark}
        return {"txt": text.encode(), "json": json.dumps(facts, ensure_ascii=False).encode() + b"\n"}


def find_shards(path: Path, output: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the shards below a folder, sorted, except those of the output, with relative paths."""
    if not path.is_dir():
        yield path, Path(path.name)
        return
    for folder, folders, files in os.walk(path):
        inside = (name for name in folders if not name.startswith("."))
        folders[:] = sorted(name for name in inside if not _is_same(Path(folder) / name, output))
        for name in sorted(files):
            if name.endswith(".tar") and not name.startswith("."):
                yield Path(folder) / name, (Path(folder) / name).relative_to(path)


def _is_same(one: Path, other: Path) -> bool:
    return other.exists() and os.path.samefile(one, other)


def _samples(tar: tarfile.TarFile) -> list[_Sample]:
    """Yield the samples of a shard, in order; a member that is not a file, or has no dot, is a separate one."""
    samples: list[_Sample] = []
    for member in tar:
        place = split_member(member.name) if member.isreg() else None
        name, end = place or (member.name, "")
        last = samples[-1] if samples else None
        if last is None or place is None or last.name != name or end in last.members:
            samples.append(_Sample(name))
        samples[-1].members[end] = member
    return samples


def _slot(tar: tarfile.TarFile, sample: _Sample) -> Slot:
    text = None
    if "txt" in sample.members:
        text = TextFile(_content(tar, sample.members["txt"], LARGEST_TEXT)).texts.get("caption")
    mark = (_facts(tar, sample) or {}).get(MARK)
    written = mark if isinstance(mark, dict) else {}
    return Slot.of(text, written.get("caption"), written.get("before"))


def _facts(tar: tarfile.TarFile, sample: _Sample) -> dict[str, Any] | None:
    """The sample's JSON; None if there is none."""
    if "json" not in sample.members:
        return None
    try:
        facts = json.loads(_content(tar, sample.members["json"], LARGEST_TEXT))
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise CaptionerError("its .json is not a JSON object; fix it")
    return facts


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, largest: int = 2**30) -> bytes:
    if member.size > largest:
        raise CaptionerError(f"has more than {largest:,} bytes")
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def _add(out: tarfile.TarFile, member: tarfile.TarInfo, content: bytes) -> None:
    member.size = len(content)
    member.pax_headers = {name: value for name, value in member.pax_headers.items() if name != "size"}
    out.addfile(member, io.BytesIO(content))


def _digest(path: Path) -> str:
    regular_size(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
