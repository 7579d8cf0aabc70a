"""``captioner sample``: sample text from a language model."""

from __future__ import annotations

import argparse
from dataclasses import replace

from captioner.errors import CaptionerError
from captioner.utils.console import printable

SUMMARY = "draw sentences from a language model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "--model", metavar="FILE", required=True, help="checkpoint of task language_model, or hf://owner/name"
    )
    parser.add_argument("--count", type=int, default=10, metavar="N", help="sentences (default: 10)")
    text = "below 1 draws likely words more often (default: 1)"
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help=text)
    text = "draw from the K likeliest words (default: 0, all)"
    parser.add_argument("--top-k", type=int, default=0, metavar="K", help=text)
    text = "draw from the likeliest words that reach this probability (default: 1)"
    parser.add_argument("--top-p", type=float, default=1.0, metavar="P", help=text)
    text = "longest sentence, in words or characters (default: 40)"
    parser.add_argument("--max-words", type=int, default=40, metavar="N", help=text)
    parser.add_argument("--prompt", metavar="TEXT", help="beginning of every sentence (default: none)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed draws others (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Print samples, one per line."""
    from captioner import checkpoint
    from captioner.decoding import DecodingOptions, decode
    from captioner.text.vocabulary import join_text

    if args.count < 1:
        raise CaptionerError(f"--count is {args.count}; it must be at least 1")
    options = DecodingOptions(
        sample=True,
        num_captions=args.count,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        max_words=args.max_words,
        no_repeat_ngram=0,
        seed=args.seed,
    )
    model, vocabulary = checkpoint.read(args.model).build_language_model()
    if args.prompt:
        options = replace(options, prompt=vocabulary.known_ids(args.prompt, model.config.unit))
    [sentences] = decode(model, model.nothing(1), options)
    for sentence in sentences:
        print(printable(join_text(vocabulary.decode(sentence.words), model.config.unit)))
    return 0
