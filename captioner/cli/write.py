"""``captioner write``: write captions into images and metadata files."""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.cli.options import (
    add_decoding_arguments,
    add_model_arguments,
    decoding_options,
    load_model,
    set_pixel_limit,
)
from captioner.errors import CaptionerError
from captioner.utils.console import print_status, printable

if TYPE_CHECKING:
    from captioner.captioning import BaseCaptioner
    from captioner.data.images import ImageSource
    from captioner.sidecars.policy import Captioned, Policy
    from captioner.sidecars.targets import Maker, Row

SUMMARY = "write captions where other programs read them: beside pictures, inside them, in tables, web pages and shards"
FILES = "paths"

# Equal to `captioner.sidecars.forms.FORMS` and `captioner.sidecars.xmp_files.NAMES`, which would load Pillow.
FORMS = ("txt", "caption", "xmp", "embedded", "metadata.jsonl", "csv", "coco", "alt", "tar")
XMP_NAMES = ("photo.jpg.xmp", "photo.xmp")

_DONE = ("write", "replace", "overwrite", "append", "prepend", "remove", "restore")
_WIDEST = 60
"""Maximum width of a file name in the table, in characters."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="image file or folder of images; for alt, pages; for tar, shards"
    )
    parser.add_argument(
        "--as",
        dest="forms",
        action="append",
        choices=FORMS,
        help="where captions are written; may be given again (see docs/write.md)",
    )
    words = parser.add_argument_group("a person's words, which are kept by default").add_mutually_exclusive_group()
    for mode, text in (
        ("overwrite", "put the caption in their place"),
        ("append", "put the caption after them"),
        ("prepend", "put the caption before them"),
    ):
        words.add_argument(f"--{mode}", dest="mode", action="store_const", const=mode, default="keep", help=text)
    parser.add_argument("--prefix", metavar="TEXT", help='put before each caption, such as "photo of"')
    parser.add_argument("--suffix", metavar="TEXT", help="put after each caption")
    text = "write no caption of which the model is less sure, from 0 to 1"
    parser.add_argument("--min-confidence", type=float, default=0.0, metavar="P", help=text)
    text = f"how the sidecar of photo.jpg is named (default: {XMP_NAMES[0]})"
    parser.add_argument("--xmp-name", choices=XMP_NAMES, default=XMP_NAMES[0], help=text)
    parser.add_argument("--output", metavar="DIR", help="folder for captioned shards (tar)")
    parser.add_argument("--dry-run", action="store_true", help="show what would be written, and write nothing")
    parser.add_argument("--undo", action="store_true", help="take back what was written below PATH (of --as, or all)")
    add_model_arguments(parser)
    add_decoding_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Write captions, or undo that."""
    paths = [Path(path) for path in args.paths]
    report = Report(args.dry_run)
    if args.undo:
        from captioner.sidecars.undo import take_back

        take_back(paths, args.forms or FORMS, args.dry_run, report.add)
        return report.end()
    forms = list(dict.fromkeys(args.forms or ()))
    _check(args, forms)
    work = _Work(args)
    try:
        if "tar" in forms:
            _write_shards([path for path in paths if _may_hold_shards(path)], work, Path(args.output), report)
            paths = [path for path in paths if path.is_dir() or not _may_hold_shards(path)]
        if others := [form for form in forms if form != "tar"]:
            _write_files(paths, others, work, report)
    except KeyboardInterrupt:
        report.end()
        raise
    return report.end()


class Report:
    """Prints and counts results.

    Args:
        is_trial: Whether this is a dry run, which also prints unchanged files.
    """

    def __init__(self, is_trial: bool) -> None:
        self._is_trial = is_trial
        self._counts: Counter[str] = Counter()
        self.width = 0

    def add(self, row: Row) -> None:
        """Print a line of the report; errors go to standard error."""
        self._counts[row.action] += 1
        if row.action == "error":
            print_status(f"captioner: {printable(row.text)}")
        elif self._is_trial or row.action in (*_DONE, "changed"):
            name = f"{row.path}: {row.slot}" if row.slot else str(row.path)
            print(f"{row.action:<9}  {printable(name):<{self.width}}  {printable(row.text)}".rstrip(), flush=True)

    def end(self) -> int:
        """Print the counts; returns the exit code."""
        done = sum(self._counts[action] for action in _DONE)
        counts = {
            "would be written" if self._is_trial else "written": done
            - self._counts["remove"]
            - self._counts["restore"],
            "taken back": self._counts["remove"] + self._counts["restore"],
            "as before": self._counts["same"],
            "kept": self._counts["keep"],
            "changed since": self._counts["changed"],
            "too unsure": self._counts["unsure"],
            "failed": self._counts["error"],
        }
        print_status(
            f"captioner: {', '.join(f'{count} {what}' for what, count in counts.items() if count) or 'nothing to do'}"
        )
        return 1 if self._counts["error"] else 0


class _Work:
    """The captioner, loaded when first needed."""

    def __init__(self, args: argparse.Namespace) -> None:
        from captioner import __version__
        from captioner.sidecars.policy import Policy
        from captioner.sidecars.targets import Maker

        self.args = args
        self.options = decoding_options(args)
        set_pixel_limit(args)
        self.policy: Policy = Policy(args.mode, args.prefix or "", args.suffix or "", args.min_confidence)
        name, digest = _identity(args.model, args.backend, args.language)
        self.maker: Maker = Maker(name, __version__)
        self.made_with = hashlib.sha256(f"{digest} {self.options}".encode()).hexdigest()[:16]
        self._model: BaseCaptioner | None = None

    def stream(self, sources: Iterable[ImageSource]) -> Iterator[Captioned | CaptionerError]:
        """Caption images; without any, the model is not loaded."""
        from captioner.sidecars.policy import Captioned

        remaining = iter(sources)
        first = next(remaining, None)
        if first is None:
            return
        if self._model is None:
            self._model = load_model(self.args)
        for result in self._model.stream(chain([first], remaining), self.options, self.args.batch_size):
            if isinstance(result, CaptionerError):
                yield result
            else:
                yield Captioned(result.text, result.log_probability, result.confidence)


def _may_hold_shards(path: Path) -> bool:
    return path.suffix == ".tar" or path.is_dir()


def _check(args: argparse.Namespace, forms: Sequence[str]) -> None:
    if not forms:
        raise CaptionerError(f"nothing says where to write; give --as with one of {', '.join(FORMS)}")
    if not 0 <= args.min_confidence <= 1:
        raise CaptionerError(f"--min-confidence is {args.min_confidence}; it must be from 0 to 1")
    if "tar" in forms and not args.output:
        raise CaptionerError("--as tar needs a folder for the captioned shards; name it with --output")
    if args.output and "tar" not in forms:
        raise CaptionerError("--output is the folder for --as tar; the other forms are written beside the pictures")


def _identity(models: Sequence[str] | None, backend: str, language: str | None) -> tuple[str, str]:
    """The model's name, and its fingerprint; the embedded one has one with all backends."""
    from captioner.checkpoint.pretrained import DEFAULT, checkpoint_of, digest_of
    from captioner.runtime.loading import opens_graphs

    names, digests = [], []
    for model in models or (DEFAULT,):
        path = Path(checkpoint_of(model, model != DEFAULT and opens_graphs(backend), language))
        digest = digest_of(path)
        names.append(f"{path.stem}@{digest[:12]}")
        digests.append(digest)
    return "+".join(names), " ".join(digests)


def _write_files(paths: Sequence[Path], forms: Sequence[str], work: _Work, report: Report) -> None:
    from captioner.sidecars.job import Job
    from captioner.sidecars.survey import Wish

    wish = Wish(paths, forms, work.args.xmp_name)
    with Job(wish, work.policy, work.maker, work.made_with, work.args.dry_run, report.add) as job:
        report.width = min(_WIDEST, max((len(str(path)) for path in job.survey.paths), default=0))
        for caption in work.stream(job.wanted()):
            job.take(caption)
        job.finish()


def _write_shards(paths: Sequence[Path], work: _Work, output: Path, report: Report) -> None:
    from captioner.sidecars.shards import Shards, find_shards

    shards = [each for path in paths for each in find_shards(path, output)]
    if not shards:
        raise CaptionerError("no .tar file is given, nor in the folders; give one")
    report.width = min(_WIDEST, max(len(str(output / name)) for _, name in shards))
    Shards(output, work.policy, work.maker, work.made_with, work.args.dry_run, report.add).write(shards, work.stream)
