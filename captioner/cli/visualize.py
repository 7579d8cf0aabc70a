"""``captioner visualize``: a picture of where the decoder looked."""

from __future__ import annotations

import argparse
from pathlib import Path

from captioner.cli.options import add_decoding_arguments, add_model_arguments, decoding_options

SUMMARY = "draw where the model looked for each word of its caption"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("photo", metavar="PHOTO", help="image file")
    parser.add_argument("--output", required=True, metavar="FILE.png", help="the picture to write")
    add_model_arguments(parser)
    add_decoding_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Captions one photograph and draws its attention."""
    from dataclasses import asdict

    from captioner.atomic import replacing
    from captioner.errors import CaptionerError
    from captioner.pipeline import load

    output = Path(args.output)
    if output.suffix.lower() != ".png":
        raise CaptionerError(f"output {output}: only .png can be written; name it {output.with_suffix('.png').name}")
    options = decoding_options(args)
    caption = load(args.model, args.device).caption(args.photo, **asdict(options))
    from captioner.visualize import plot

    figure = plot(args.photo, caption)
    with replacing(output) as path:
        figure.savefig(path, format="png", dpi=100)
    print(output)
    return 0
