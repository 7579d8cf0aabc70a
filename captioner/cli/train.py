"""``captioner train``: train a captioner from a configuration file."""

from __future__ import annotations

import argparse

from captioner.utils.console import printable

SUMMARY = "train a captioner: --config FILE, then overrides such as --trainer.max_epochs 3; --help tells all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments: LightningCLI parses them."""


def run(args: argparse.Namespace) -> int:
    """Train and print the name of the checkpoint."""
    from captioner.training.run import train

    written = train(args.rest)
    if written is not None:
        print(printable(str(written)))
    return 0
