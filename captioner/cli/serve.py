"""``captioner serve``: serve captions over HTTP, with a web page."""

from __future__ import annotations

import argparse
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
from captioner.utils.console import print_status
from captioner.utils.runtime import keep_few_kernels

if TYPE_CHECKING:
    from captioner.serve.limits import Limits

SUMMARY = "serve captions over HTTP, with a page, and as Ollama and OpenAI do"

MAX_PIXELS = 100_000_000
"""Default limit of pixels per image; lower than elsewhere, since images come from strangers."""

MIB = 2**20
LOOPBACK = ("127.0.0.1", "::1", "localhost")
MISSING = "the server needs FastAPI, uvicorn and others that are not installed: pip install 'captioner[serve]'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    text = "address to listen on; 0.0.0.0 lets other machines in (default: 127.0.0.1)"
    parser.add_argument("--host", default="127.0.0.1", help=text)
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="port to listen on (default: 8000)")
    text = "ask for the bearer token that this file holds"
    parser.add_argument("--token-file", metavar="FILE", help=text)
    text = "let scripts of this site ask, such as https://photos.example (CORS; default: none); may be given again"
    parser.add_argument("--cors", metavar="ORIGIN", action="append", default=[], help=text)
    text = "offer this page of captioner export --output FILE.html, which captions in the browser, at /page.html"
    parser.add_argument("--page", metavar="FILE", help=text)
    parser.add_argument("--name", default="captioner", help="what clients call the model (default: captioner)")
    add_model_arguments(parser, max_pixels=MAX_PIXELS)
    add_decoding_arguments(parser)
    text = "captions for each (default: 1)"
    parser.add_argument("--num-captions", type=int, default=argparse.SUPPRESS, metavar="N", help=text)
    group = parser.add_argument_group("limits")
    text = "largest request in MiB (default: 64)"
    group.add_argument("--max-body", type=float, default=64, metavar="MIB", help=text)
    text = "requests held in memory at one time, in MiB (default: 256)"
    group.add_argument("--max-memory", type=float, default=256, metavar="MIB", help=text)
    group.add_argument("--max-pictures", type=int, default=64, metavar="N", help="pictures of a request (default: 64)")
    text = "pictures that wait, of all requests; more are answered with 503 (default: 512)"
    group.add_argument("--max-queue", type=int, default=512, metavar="N", help=text)
    text = "longest time for a request to arrive, and again for its captions (default: 60)"
    group.add_argument("--timeout", type=float, default=60, metavar="SECONDS", help=text)
    text = "how long the first picture waits for others to share its batch (default: 3)"
    group.add_argument("--window", type=float, default=3, metavar="MS", help=text)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    try:
        from captioner.serve.app import create_app
        from captioner.serve.batching import start_thread
        from captioner.serve.server import BACKLOG, address_of, open_socket, serve
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("captioner"):
            raise
        raise CaptionerError(MISSING) from None
    limits = _limits(args)
    token = None if args.token_file is None else _token(args.token_file)
    options = decoding_options(args)
    set_pixel_limit(args)
    opened = open_socket(args.host, args.port)
    keep_few_kernels()
    thread = start_thread()
    model = thread.submit(load_model, args).result()
    app = create_app(
        model,
        name=args.name,
        options=options,
        limits=limits,
        token=token,
        origins=args.cors,
        page=args.page,
        thread=thread,
    )
    if token is None and args.host not in LOOPBACK:
        print_status(f"captioner: whoever reaches {args.host} can use this server; --token-file asks for a token")
    opened.listen(BACKLOG)  # whoever reads the next line may connect
    print_status(f"captioner: serving at {address_of(opened)}")
    serve(app, opened, limits)
    return 0


def _limits(args: argparse.Namespace) -> Limits:
    from captioner.serve.limits import Limits

    return Limits(
        body_bytes=int(args.max_body * MIB),
        total_bytes=int(max(args.max_memory, args.max_body) * MIB),
        pictures=args.max_pictures,
        queue=args.max_queue,
        seconds=args.timeout,
        batch=args.batch_size,
        window=args.window / 1000,
    )


def _token(file: str) -> str:
    """Read a token from a file.

    Raises:
        CaptionerError: It is empty, or not valid in a header.
    """
    try:
        token = Path(file).read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        raise CaptionerError(f"{file}: {error.strerror}; give a file that holds a token") from error
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise CaptionerError(f"{file}: has no token; write one there, of ASCII letters and digits")
    return token
