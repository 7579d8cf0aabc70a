"""Lays out a published data set under ``data/``: what the ``prepare_*`` tools have in common.

Whatever is there already is used: unpacked files, zip files, half a download. Done means that every picture which the
caption file names is in its folder.
"""

from __future__ import annotations

import argparse
import shutil
import stat
import sys
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from download import Archive, fetch, readable

from captioner.data.caption_files import read_records
from captioner.data.formats import parse
from captioner.errors import CaptionerError
from captioner.utils.files import replacing


@dataclass(frozen=True)
class DataSet:
    """What to fetch, and where it goes.

    Attributes:
        title: The data set's name.
        folder: Where it goes when nothing else is said.
        captions: The archive with the caption file.
        captions_file: The caption file's name, in Karpathy's format.
        images: The folder that its paths are relative to, relative to that of the data set.
        pictures: The archives with the pictures.
    """

    title: str
    folder: Path
    captions: Archive
    captions_file: str
    images: str
    pictures: tuple[Archive, ...]


def prepare(data: DataSet, folder: Path, base_url: str | None = None, pause: float = 1.0) -> str:
    """Fetches, checks and unpacks what is missing.

    Args:
        data: The data set.
        folder: Where it goes.
        base_url: Another place to fetch all archives from.
        pause: Seconds before a lost connection is tried again.

    Returns:
        What is there now, in one line.

    Raises:
        CaptionerError: Something cannot be fetched or is not what was published.
    """
    captions = folder / data.captions_file
    if not captions.exists():
        _say(f"fetching {data.captions.name} ({readable(data.captions.size)})")
        unpack(fetch(data.captions, folder, base_url, pause), {data.captions_file}, folder)
    wanted = _wanted(data, folder)
    for archive in data.pictures:
        absent = _absent(wanted, folder, archive)
        if absent:
            _say(f"fetching {archive.name} ({readable(archive.size)}): {len(absent)} pictures are not there yet")
            unpack(fetch(archive, folder, base_url, pause), absent, folder / archive.into)
    records = read_records(captions, folder / data.images)
    splits = Counter(record.split for record in records)
    total = sum(len(record.captions) for record in records)
    parts = ", ".join(f"{split} {count}" for split, count in splits.items())
    return f"{captions}: {len(records)} pictures ({parts}), {total} captions; zip files may be deleted"


def _wanted(data: DataSet, folder: Path) -> defaultdict[Path, set[str]]:
    """Names of the pictures that the caption file names, by their folder relative to the data set's."""
    names: defaultdict[Path, set[str]] = defaultdict(set)
    for record in parse(folder / data.captions_file, None, None):
        names[Path(data.images, record.image).parent].add(record.image.name)
    return names


def _absent(wanted: Mapping[Path, set[str]], folder: Path, archive: Archive) -> set[str]:
    """Names of the pictures of an archive that are wanted and not in their folder yet."""
    into = folder / archive.into
    there = {path.name for path in into.iterdir()} if into.is_dir() else set()
    return wanted.get(Path(archive.into), set()) - there


def unpack(path: Path, wanted: Set[str], into: Path) -> None:
    """Takes files out of a zip file by their names, whatever folder of the archive they are in.

    Args:
        path: The zip file.
        wanted: File names without folders.
        into: The folder for them all.

    Raises:
        CaptionerError: It is no sound zip file, a member would leave the folder, a wanted file is not in it, or the
            disk is full.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                _refuse_escape(member, path)
            # macOS adds a "._name" twin of each file in a folder of its own.
            members = {
                name: member
                for member in archive.infolist()
                if (name := PurePosixPath(member.filename).name) in wanted and not member.is_dir()
            }
            lacking = sorted(wanted - members.keys())
            if lacking:
                raise CaptionerError(
                    f"{path} lacks {lacking[0]} ({len(lacking)} of {len(wanted)} files): put the right archive there"
                )
            for name, member in members.items():
                with archive.open(member) as source, replacing(into / name) as temporary, temporary.open("wb") as file:
                    shutil.copyfileobj(source, file)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise CaptionerError(f"{path} is not a sound zip file ({error}): delete it and run this again") from error


def _refuse_escape(member: zipfile.ZipInfo, path: Path) -> None:
    name = member.filename
    parts = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
    link = stat.S_ISLNK(member.external_attr >> 16)
    if link or ".." in parts or PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor:
        raise CaptionerError(
            f"{path} holds {name!r}, which leads out of its folder: get the archive from its publisher"
        )


def plan(data: DataSet, folder: Path, base_url: str | None = None) -> list[str]:
    """What ``prepare`` would do, a line an archive; writes and fetches nothing."""
    lines = [f"{data.title} into {folder}"]
    known = (folder / data.captions_file).exists()
    wanted = _wanted(data, folder) if known else {}
    for archive in (data.captions, *data.pictures):
        target = folder / archive.name
        part = folder / f"{archive.name}.part"
        if known and (archive is data.captions or not _absent(wanted, folder, archive)):
            state = "unpacked already"
        elif target.exists():
            state = "there, to be checked and unpacked"
        elif part.exists():
            state = f"to be fetched from byte {part.stat().st_size} on"
        else:
            state = "to be fetched"
        url = archive.url if base_url is None else f"{base_url.rstrip('/')}/{archive.name}"
        lines.append(
            f"{url}  {readable(archive.size)}  {archive.algorithm} {archive.digest}  "
            f"as {target}, unpacked into {folder / archive.into}: {state}"
        )
    return lines


def main(data: DataSet, argv: Sequence[str] | None = None) -> int:
    """Runs the tool for one data set; returns 0, 2 when something could not be done, or 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=f"Fetch {data.title}, check it and lay it out under data/.")
    parser.add_argument("--folder", type=Path, default=data.folder, help="where it goes (default: %(default)s)")
    parser.add_argument("--base-url", help="fetch the archives from this place, for instance a mirror")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be fetched and where it goes")
    args = parser.parse_args(argv)
    if args.dry_run:
        return told(parser.prog, lambda: "\n".join(plan(data, args.folder, args.base_url)))
    return told(parser.prog, lambda: prepare(data, args.folder, args.base_url))


def told(program: str, work: Callable[[], str]) -> int:
    """Does a tool's work and prints what came of it, or why it could not be done; returns the exit code."""
    try:
        print(work())
    except CaptionerError as error:
        _say(f"{program}: {error}")
        return 2
    except KeyboardInterrupt:
        _say(f"{program}: interrupted; run this again to go on")
        return 130
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
