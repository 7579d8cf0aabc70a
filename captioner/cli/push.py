"""``captioner push``: upload a model to the Hugging Face Hub."""

from __future__ import annotations

import argparse
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.utils.console import printable

SUMMARY = "upload a model to the Hugging Face Hub, with its card and as ONNX"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    text = "checkpoint, folder of a training run, or default, the embedded model"
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=text)
    parser.add_argument("name", metavar="OWNER/NAME", help="repository; it is created where it is not there")
    parser.add_argument("--private", action="store_true", help="create it as a private one")
    text = "write the files to this new folder, and upload nothing"
    parser.add_argument("--to", metavar="DIR", help=text)


def run(args: argparse.Namespace) -> int:
    """Upload the model, or write what would be uploaded; print where."""
    from captioner.export.repository import push, write_repository

    if args.to and args.private:
        raise CaptionerError("--private is for a repository that is created; --to writes to a folder alone")
    if args.to:
        write_repository(Path(args.to), args.checkpoint, args.name)
    print(printable(args.to or push(args.checkpoint, args.name, args.private)))
    return 0
