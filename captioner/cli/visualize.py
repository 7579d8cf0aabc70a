"""``captioner visualize``: draw attention maps as an image, animation, page or gallery."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.cli.caption import STANDARD_INPUT, standard_input
from captioner.cli.messages import message_of
from captioner.cli.options import (
    add_decoding_arguments,
    add_model_arguments,
    check_output,
    decoding_options,
    load_model,
    set_pixel_limit,
)
from captioner.errors import CaptionerError
from captioner.utils.console import print_status, printable

if TYPE_CHECKING:
    from captioner.caption import Caption
    from captioner.captioning import BaseCaptioner
    from captioner.data.images import ImageSource
    from captioner.decoding import DecodingOptions
    from captioner.visualize.gallery import Photograph

SUMMARY = "draw where the model looked for each word of its caption"
SUFFIXES = (".png", ".gif", ".html")
PAGE_CAPTIONS = 5
"""Default number of captions on a page."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "photo", metavar="PHOTO", help="image file, - for standard input, or a folder of images (.html only)"
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help="what to write: .png, a panel a word; .gif, word by word; .html, a page to point at words, or a gallery",
    )
    add_model_arguments(parser)
    add_decoding_arguments(parser)
    parser.add_argument(
        "--num-captions",
        type=int,
        default=argparse.SUPPRESS,
        metavar="N",
        help=f"captions that a page can switch between (default: {PAGE_CAPTIONS}, or the beam size if that is less)",
    )
    parser.add_argument(
        "--saliency",
        choices=("gradient",),
        help="in place of attention, show which pixels each word's probability hangs on; works for any model",
    )


def run(args: argparse.Namespace) -> int:
    """Caption one image, or all of a folder, and draw their maps."""
    output = Path(args.output)
    suffix = output.suffix.lower()
    if suffix not in SUFFIXES:
        raise CaptionerError(f"output {output}: only .png, .gif and .html can be written; name it {output.stem}.png")
    check_output(args.output, args.photo, *(args.model or ()))
    from captioner.data.folders import GALLERY_END

    check_output(str(output.parent / f"{output.stem}{GALLERY_END}"), args.photo)
    options = decoding_options(args)
    set_pixel_limit(args)
    if suffix == ".html" and "num_captions" not in args:
        options = replace(options, num_captions=min(PAGE_CAPTIONS, options.beam_size))
    if args.photo != STANDARD_INPUT and os.path.isdir(args.photo):
        if suffix != ".html":
            raise CaptionerError(f"output {output}: a folder becomes a gallery; name it {output.stem}.html")
        return _gallery(args, options, output)
    from captioner.utils.files import replacing

    image: ImageSource = standard_input() if args.photo == STANDARD_INPUT else args.photo
    model = load_model(args)
    caption = _with_maps(model, image, model.caption(image, **asdict(options)), args.saliency)
    content = _draw(suffix, image, caption, args)
    with replacing(output) as path:
        path.write_bytes(content)
    print(printable(str(output)))
    return 0


def _draw(suffix: str, image: ImageSource, caption: Caption, args: argparse.Namespace) -> bytes:
    """Build the file's content."""
    if suffix == ".html":
        from captioner.visualize.page import draw_page

        name = "standard input" if args.photo == STANDARD_INPUT else os.path.basename(args.photo)
        return draw_page(image, caption, name, _measure(args)).encode()
    if suffix == ".gif":
        from captioner.visualize.animation import animate

        return animate(image, caption)
    from io import BytesIO

    from captioner.visualize import plot

    buffer = BytesIO()
    plot(image, caption, _measure(args)).savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _gallery(args: argparse.Namespace, options: DecodingOptions, output: Path) -> int:
    from captioner.data.folders import find_images
    from captioner.visualize.gallery import Photograph, write_gallery

    paths = list(find_images(args.photo))
    if not paths:
        raise CaptionerError(f"folder {args.photo}: has no image; give one with .jpg, .png or the like")
    model = load_model(args)
    failed = 0

    def photographs() -> Iterator[Photograph]:
        nonlocal failed
        from captioner.utils.counter import counted

        results = zip(paths, model.stream(paths, options, args.batch_size), strict=True)
        for path, result in counted(results, "Drawing", len(paths)):
            if isinstance(result, CaptionerError):
                failed += 1
                print_status(f"captioner: {message_of(result)}")
            else:
                yield Photograph(
                    os.path.relpath(path, args.photo), path, _with_maps(model, path, result, args.saliency)
                )

    title = os.path.basename(os.path.abspath(args.photo)) or "Photographs"
    write_gallery(output, photographs(), title, _measure(args))
    print(printable(str(output)))
    return 1 if failed else 0


def _with_maps(model: BaseCaptioner, image: ImageSource, caption: Caption, saliency: str | None) -> Caption:
    if saliency is None:
        return caption
    from captioner.visualize.saliency import gradient_saliency

    return gradient_saliency(model, image, caption)


def _measure(args: argparse.Namespace) -> str:
    """Name of the quantity shown by the maps."""
    return "gradient" if args.saliency else "attention"
