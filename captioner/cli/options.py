"""Arguments that several verbs share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from captioner.decoding import DecodingOptions


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The model and where it runs."""
    parser.add_argument(
        "--model", metavar="FILE", help="checkpoint made by captioner train (default: the embedded one)"
    )
    parser.add_argument("--device", default="cpu", help="where the model runs, such as cpu or cuda (default: cpu)")


def add_decoding_arguments(parser: argparse.ArgumentParser) -> None:
    """How captions are written."""
    parser.add_argument(
        "--beam-size", type=int, default=5, metavar="N", help="hypotheses kept; 1 is greedy (default: 5)"
    )
    parser.add_argument("--max-words", type=int, default=20, metavar="N", help="longest caption (default: 20)")
    parser.add_argument(
        "--length-penalty",
        type=float,
        default=0.7,
        metavar="A",
        help="compare hypotheses by log-probability / words^A; 0 favours short captions (default: 0.7)",
    )
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="photographs at once (default: 16)")


def decoding_options(args: argparse.Namespace) -> DecodingOptions:
    """The options that were given."""
    from captioner.decoding import DecodingOptions

    return DecodingOptions(
        beam_size=args.beam_size,
        num_captions=getattr(args, "num_captions", 1),
        max_words=args.max_words,
        length_penalty=args.length_penalty,
    )
