"""Arguments that several verbs share."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from captioner.errors import CaptionerError

if TYPE_CHECKING:
    from captioner.captioning import BaseCaptioner
    from captioner.decoding import DecodingOptions


def add_model_arguments(parser: argparse.ArgumentParser, max_pixels: int | None = None) -> None:
    """Add the arguments of the model, or an ensemble, and its device.

    Args:
        parser: The verb's.
        max_pixels: Default limit of an image's pixels; None keeps Pillow's.
    """
    parser.add_argument(
        "--model",
        metavar="FILE",
        action="append",
        help="checkpoint made by captioner train, or hf://owner/name of one on the Hugging Face Hub (default: the "
        "embedded one); given again, an ensemble",
    )
    parser.add_argument(
        "--backend",
        default="auto",
        choices=("auto", "torch", "onnx"),
        help="what computes: torch, or onnxruntime for the embedded model and .onnx files (default: auto, torch for "
        "checkpoints where it is installed)",
    )
    text = "of the captions, such as de; captioner info tells a model's languages (default: the model's own)"
    parser.add_argument("--language", metavar="LANGUAGE", help=text)
    parser.add_argument("--device", default="cpu", help="where the model runs, such as cpu or cuda (default: cpu)")
    # Equal to `captioner.models.inference.PRECISIONS`, which cannot be imported without torch.
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "float32", "bfloat16"),
        help="numbers to compute with (default: auto: bfloat16 where it is faster and scores stay within 0.5 %%)",
    )
    text = f"refuse photographs with more pixels, before they fill the memory (default: {max_pixels or 178956970})"
    parser.add_argument("--max-pixels", type=int, default=max_pixels, metavar="N", help=text)


def load_model(args: argparse.Namespace) -> BaseCaptioner:
    """Load the model, and configure the process for heavy use."""
    from captioner.runtime.loading import load
    from captioner.utils.runtime import keep_freed_memory

    model: BaseCaptioner = load(args.model, args.device, args.precision, args.backend, args.language)
    keep_freed_memory()  # after loading, whose blocks are needed only once
    return model


def add_drawn_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that name the validation images which training drew."""
    text = "the images that training with data.val_share SHARE drew for validation"
    parser.add_argument("--val-share", type=float, metavar="SHARE", help=text)
    parser.add_argument(
        "--val-seed", type=int, default=0, metavar="N", help="data.val_seed of that training (default: 0)"
    )


def check_output(output: str | None, *inputs: str | None) -> None:
    """Refuse an output that is an input: ``--output *.jpg`` without a file name would overwrite an image.

    Raises:
        CaptionerError: The output is one of the inputs, or ``-``.
    """
    if output == "-":
        raise CaptionerError("- is not a file to write to; name one (without it, captions and scores are printed)")
    for file in inputs:
        if output and file and os.path.exists(output) and os.path.exists(file) and os.path.samefile(output, file):
            raise CaptionerError(f"{output} would be replaced, but is read as well; name another file to write")


def check_ending(output: str | None, *endings: str) -> None:
    """Refuse an output with a misleading extension, such as ``captions.csv`` for JSON.

    Args:
        output: The file to write; any name without an extension is fine.
        endings: Extensions of the format, the usual one first.

    Raises:
        CaptionerError: The output has another extension.
    """
    stem, ending = os.path.splitext(output or "")
    if ending and ending.lower() not in endings:
        raise CaptionerError(f"output {output}: only {endings[0]} can be written; name it {stem}{endings[0]}")


def set_pixel_limit(args: argparse.Namespace) -> None:
    """Apply ``--max-pixels``."""
    if args.max_pixels is not None:
        from captioner.data.images import limit_pixels

        limit_pixels(args.max_pixels)


def add_decoding_arguments(parser: argparse.ArgumentParser) -> None:
    """Add options for fields of `DecodingOptions`, which are absent unless given."""
    group = parser.add_argument_group("decoding")

    def add(flag: str, text: str, **how: Any) -> None:  # noqa: ANN401
        group.add_argument(flag, default=argparse.SUPPRESS, help=text, **how)

    add("--beam-size", "hypotheses kept; 1 is greedy (default: 5)", type=int, metavar="N")
    add("--min-words", "shortest caption (default: 0)", type=int, metavar="N")
    add("--max-words", "longest caption (default: 20)", type=int, metavar="N")
    text = "compare hypotheses by log-probability / words^A; 0 favours short captions (default: 0.9)"
    add("--length-penalty", text, type=float, metavar="A")
    add(
        "--no-repeat-ngram",
        "let no N words in a row occur twice, and no word twice in a row; 0 lets them (default: 2)",
        type=int,
        metavar="N",
    )
    add("--forbid", "words never written", dest="forbidden_words", type=_words, metavar="WORD,...")
    add("--require", "words that every caption has", dest="required_words", type=_words, metavar="WORD,...")
    add("--prompt", "words that every caption begins with", metavar="TEXT")
    add("--no-bad-endings", "end no caption on words like a, of or with", action="store_true")
    text = "groups of the beam, kept from each other's words, for captions that differ (default: 1)"
    add("--diverse-groups", text, type=int, metavar="N")
    add("--diversity-penalty", "how strongly they are (default: 0.5)", type=float, metavar="L")
    add("--sample", "draw words at random instead of searching for the likeliest caption", action="store_true")
    add("--temperature", "below 1 draws likely words more often (default: 1)", type=float, metavar="T")
    add("--top-k", "draw from the K likeliest words (default: 0, all)", type=int, metavar="K")
    add("--top-p", "draw from the likeliest words that reach this probability (default: 1)", type=float, metavar="P")
    add("--seed", "another seed draws other captions (default: 0)", type=int, metavar="N")
    group.add_argument("--batch-size", type=int, default=128, metavar="N", help="photographs at once (default: 128)")


def decoding_options(args: argparse.Namespace) -> DecodingOptions:
    """Build the decoding options from the arguments."""
    from captioner.decoding import DecodingOptions
    from captioner.text.function_words import FUNCTION_WORDS

    given = {name: value for name, value in vars(args).items() if name in DecodingOptions.__dataclass_fields__}
    if "no_bad_endings" in args:
        given["bad_endings"] = FUNCTION_WORDS
    return DecodingOptions(**given)


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise argparse.ArgumentTypeError("names no word; leave it out, or name some")
    return words
