"""``captioner export``: convert Lightning checkpoints to a safe, self-contained file.

The name of the file says what it is: a checkpoint (``.safetensors``), two graphs for onnxruntime (``.onnx``), or a page
that captions in a browser (``.html``).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.checkpoint.file_names import ONNX, SAFETENSORS
from captioner.cli.options import check_ending, check_output
from captioner.errors import CaptionerError
from captioner.utils.console import printable

if TYPE_CHECKING:
    from captioner.checkpoint import Checkpoint

SUMMARY = "turn a checkpoint of a training run (last.ckpt) into one self-contained file, ONNX, or a page"
FILES = "checkpoints"
DTYPES = ("float32", "float16", "bfloat16", "int8")
HTML = ".html"
DEFAULT_RUNTIME = "node_modules/onnxruntime-web"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "checkpoints",
        nargs="*",
        metavar="CHECKPOINT",
        help="a .ckpt of captioner train, a .safetensors of ours, or hf://owner/name; of several, the mean of their "
        "weights is written (default: the embedded model)",
    )
    text = "write what captions in this language, such as de (default: the model's own)"
    parser.add_argument("--language", metavar="LANGUAGE", help=text)
    parser.add_argument(
        "--ensemble",
        action="store_true",
        help="write several as they are, into one file that captions with the mean of their log-probabilities",
    )
    parser.add_argument(
        "--without-encoder",
        action="store_true",
        help="write the decoder alone: photos.de.safetensors, in German, on the encoder of photos.safetensors",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help="the file to write: .safetensors, a checkpoint; .onnx, the encoder's graph, with the step's beside it; "
        ".html, a page that captions in a browser, offline",
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        help="precision of the matrices (default: float32; for .onnx and .html that of the checkpoint)",
    )
    parser.add_argument(
        "--external-weights",
        action="store_true",
        help="write .onnx files that point to the weights of the checkpoint in the same folder, in place of copies",
    )
    parser.add_argument(
        "--onnxruntime-web",
        metavar="DIR",
        help="folder of the npm package of that name, which .html needs (default: node_modules/onnxruntime-web)",
    )
    parser.add_argument("--card", metavar="FILE.json", help="JSON object to add to the model card")


def run(args: argparse.Namespace) -> int:
    """Write one file, or the two of an ONNX model."""
    from captioner.checkpoint.pretrained import DEFAULT, checkpoint_of

    files = [os.fspath(checkpoint_of(name, language=args.language)) for name in args.checkpoints or [DEFAULT]]
    check_ending(args.output, SAFETENSORS, ONNX, HTML)
    check_output(args.output, *files, args.card)
    suffix = Path(args.output).suffix.lower()
    for option, kind in (("external_weights", ONNX), ("onnxruntime_web", HTML)):
        if getattr(args, option) and suffix != kind:
            raise CaptionerError(f"--{option.replace('_', '-')} is for a {kind} file, not for {args.output}")
    if args.without_encoder and (args.ensemble or suffix in (ONNX, HTML)):
        what = "--ensemble" if args.ensemble else args.output
        raise CaptionerError(f"--without-encoder is for one {SAFETENSORS} file of one model, not for {what}")
    if suffix == ONNX:
        _write_onnx(args, files)
    elif suffix == HTML:
        from captioner.export.page import write_page

        with _one_file(args, files) as source:
            write_page(args.output, source, args.onnxruntime_web or DEFAULT_RUNTIME)
    else:
        _write_checkpoint(args.output, args, files)
    print(printable(args.output))
    return 0


def _write_onnx(args: argparse.Namespace, files: Sequence[str]) -> None:
    from captioner.checkpoint.file_names import step_file
    from captioner.export.onnx_files import write_onnx

    check_output(os.fspath(step_file(Path(args.output))), *files, args.card)
    with _one_file(args, files) as source:
        write_onnx(args.output, source, args.external_weights)


@contextmanager
def _one_file(args: argparse.Namespace, files: Sequence[str]) -> Iterator[str]:
    """The checkpoint itself where nothing is to be changed about it, else one that is written for the moment."""
    from tempfile import TemporaryDirectory

    unchanged = len(files) == 1 and not args.card and not args.dtype and Path(files[0]).suffix == SAFETENSORS
    if unchanged:
        yield files[0]
        return
    if args.external_weights:
        raise CaptionerError("--external-weights points to one .safetensors file as it is; export to that first")
    with TemporaryDirectory() as folder:
        name = os.path.join(folder, "captioner.safetensors")
        _write_checkpoint(name, args, files)
        yield name


def _write_checkpoint(output: str, args: argparse.Namespace, files: Sequence[str]) -> None:
    import torch

    from captioner import checkpoint
    from captioner.checkpoint.merge import average, together

    given: list[Checkpoint] = []
    for index, name in enumerate(files):
        if any(os.path.realpath(name) == os.path.realpath(other) for other in files[:index]):
            raise CaptionerError(f"checkpoint {name}: is given twice; each counts once")
        given += checkpoint.read_members(name) if args.ensemble else [checkpoint.read(name)]
    for content in given:
        content.build() if args.ensemble else content.verify()  # language models have no ensemble
    first, *others = together(given) if args.ensemble else [average(given)]
    if args.card:
        first = replace(first, card={**first.card, **_model_card(args.card)})
    dtype = getattr(torch, args.dtype or DTYPES[0])
    if args.without_encoder:
        checkpoint.write_decoder(output, first, dtype)
    else:
        checkpoint.write(output, first, *others, dtype=dtype)


def _model_card(name: str) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        card = json.loads(Path(name).read_text(encoding="utf-8-sig"), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise CaptionerError(f"card {name}: cannot be read as JSON: {error}") from error
    if not isinstance(card, dict):
        raise CaptionerError(f'card {name}: is not a JSON object; write {{"licence": …}} and the like')
    return card


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")
