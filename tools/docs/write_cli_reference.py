"""Writes docs/cli_reference.md: what ``--help`` of each command prints.

python tools/docs/write_cli_reference.py
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

from captioner.cli import VERBS, make_parser
from captioner.cli import main as captioner
from captioner.utils.files import replacing

PAGE = Path(__file__).parents[2] / "docs" / "cli_reference.md"
WIDTH = 100
INTRODUCTION = """\
# Commands and options

What `--help` of each command prints; `python tools/docs/write_cli_reference.py` writes this page.
[The command line](command_line.md) tells about completion, help for training and configurations.

"""


def reference() -> str:
    """The page in Markdown: a section for each command."""
    with _fixed_terminal():
        sections = [_section("captioner", make_parser().format_help())]
        sections += [_section(f"captioner {verb}", _help(verb)) for verb in VERBS]
    return INTRODUCTION + "\n".join(sections)


@contextlib.contextmanager
def _fixed_terminal() -> Iterator[None]:
    """Has help texts wrapped at one width, without colors, wherever this runs."""
    with mock.patch.dict(os.environ, {"COLUMNS": str(WIDTH), "NO_COLOR": "1"}):
        yield


def _help(verb: str) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        captioner([verb, "--help"])
    return output.getvalue()


def _section(command: str, text: str) -> str:
    return f"## {command}\n\n```text\n{text.rstrip()}\n```\n"


def main(arguments: Sequence[str]) -> int:
    """Writes the page."""
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    with replacing(PAGE) as file:
        file.write_text(reference(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
