"""``captioner caption --engine ray``: caption on a Ray cluster."""

from __future__ import annotations

import argparse
import importlib.util
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from captioner.cli.options import decoding_options
from captioner.errors import CaptionerError
from captioner.utils.console import print_status, printable

if TYPE_CHECKING:
    from captioner.ray.engine import Counts

MISSING = "--engine ray needs {} that is not installed: pip install 'captioner[ray]'"
PACKAGES = ("ray", "pyarrow", "fsspec")

# Equal to `captioner.ray.parts.FORMS`, whose module loads pyarrow.
FORMS = ("parquet", "jsonl")

SHARD_SIZE = 1000

_DEFAULTS = {
    "format": FORMS[0],
    "shard_size": SHARD_SIZE,
    "column": None,
    "keep": (),
    "actors": None,
    "cpus_per_actor": None,
    "gpus_per_actor": None,
}


def add_ray_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose the engine, and those of Ray."""
    text = "what runs: this process, or a Ray cluster, whose --output is a folder (default: local)"
    parser.add_argument("--engine", default="local", choices=("local", "ray"), help=text)
    group = parser.add_argument_group("on a Ray cluster (docs/ray.md)")

    def add(flag: str, text: str, **how: Any) -> None:  # noqa: ANN401
        group.add_argument(flag, default=argparse.SUPPRESS, help=text, **how)

    add("--format", "of the files in the folder (default: parquet)", choices=FORMS)
    add("--shard-size", f"pictures of a file in the folder (default: {SHARD_SIZE})", type=int, metavar="N")
    add("--column", "column of the pictures in Parquet files (default: the one of bytes or paths)", metavar="NAME")
    add("--keep", "columns of Parquet files to copy", type=_names, metavar="NAME,...")
    add("--actors", "processes that caption (default: as many as fit)", type=int, metavar="N")
    text = "CPUs of each (default: 1; beside GPUs, the machine's CPUs for each)"
    add("--cpus-per-actor", text, type=float, metavar="N")
    text = "GPUs of each, perhaps a fraction (default: 1 with --device cuda, else 0)"
    add("--gpus-per-actor", text, type=float, metavar="N")


def refuse_ray_arguments(args: argparse.Namespace) -> None:
    """Refuse what only Ray uses.

    Raises:
        CaptionerError: One is given.
    """
    for name in _DEFAULTS:
        if name in args:
            raise CaptionerError(f"--{name.replace('_', '-')} is for a cluster; add --engine ray, or leave it out")


def run_on_ray(args: argparse.Namespace) -> int:
    """Caption on a cluster; returns the exit code."""
    if not args.output:
        raise CaptionerError("--engine ray writes files of captions; name their folder with --output")
    if args.json or "-" in (*args.photos, args.output):
        what = "--json" if args.json else "-"
        raise CaptionerError(f"{what} is of no use to --engine ray, whose processes read and write files; leave it out")
    settings: dict[str, Any] = {name: vars(args).get(name, default) for name, default in _DEFAULTS.items()}
    for name in ("shard_size", "actors", "cpus_per_actor"):
        if settings[name] is not None and settings[name] <= 0:
            raise CaptionerError(f"--{name.replace('_', '-')} is {settings[name]:g}; it must be greater than 0")
    options = asdict(decoding_options(args))
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise CaptionerError(MISSING.format(package))
    from captioner.checkpoint.pretrained import DEFAULT, checkpoint_of, digest_of
    from captioner.ray.addresses import absolute
    from captioner.ray.engine import Cluster, caption_on_ray
    from captioner.ray.inputs import Wish
    from captioner.ray.parts import Parts
    from captioner.ray.worker import Work

    models = [DEFAULT if model == DEFAULT else absolute(model) for model in args.model or (DEFAULT,)]
    wish = Wish(tuple(map(absolute, args.photos)), settings["shard_size"], settings["column"], settings["keep"])
    captioner = {
        **options,
        "model": models,
        "device": args.device,
        "precision": args.precision,
        "backend": args.backend,
        "language": args.language,
        "min_confidence": args.min_confidence,
        "max_pixels": args.max_pixels,
    }
    parts = Parts(absolute(args.output), settings["format"])
    work = Work(parts, captioner, args.batch_size, wish.column, wish.keep)
    gpus = settings["gpus_per_actor"]
    needs_gpu = args.device != "cpu" if gpus is None else gpus
    counts = caption_on_ray(
        wish,
        work,
        Cluster(settings["actors"], settings["cpus_per_actor"], float(needs_gpu)),
        {
            "model": [digest_of(checkpoint_of(model, language=args.language)) for model in models],
            "option": {**options, "min_confidence": args.min_confidence, "max_pixels": args.max_pixels},
            "format": parts.form,
        },
        args.resume,
        args.overwrite,
        lambda failure: print_status(f"captioner: a part is left out: {printable(failure)}"),
    )
    _tell(counts, args.output)
    return 1 if counts.errors or counts.failures else 0


def _tell(counts: Counts, output: str) -> None:
    before = f" ({counts.before} parts were there)" if counts.before else ""
    print_status(f"captioner: {printable(output)}: {counts.pictures} pictures{before}")
    if counts.errors:
        print_status(f"captioner: {counts.errors} of them could not be captioned; the column error tells why")
    if counts.failures:
        print_status(f"captioner: {counts.failures} parts are left out; --resume tries them again")


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("names no column; leave it out, or name some")
    return names
