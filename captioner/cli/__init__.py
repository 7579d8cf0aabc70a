"""The command line: one module a verb, each with ``SUMMARY``, ``add_arguments(parser)`` and ``run(args)``.

A verb of many files says by which name: ``FILES``. A verb module imports at its top only what is cheap; torch and the
like are imported inside ``run``, so that ``captioner --help`` answers at once and ``captioner score`` never loads
torch.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from captioner import __version__
from captioner.cli.interrupt import interruptible
from captioner.cli.messages import message_of
from captioner.errors import CaptionerError
from captioner.utils.console import print_status, printable
from captioner.utils.nearest import did_you_mean
from captioner.utils.signals import EXIT_INTERRUPTED

VERBS = (
    "caption",
    "write",
    "visualize",
    "train",
    "serve",
    "evaluate",
    "score",
    "calibrate",
    "sample",
    "info",
    "export",
    "completion",
)

EXIT_OK = 0
EXIT_WRONG_USE = 2

_OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory|not enough memory")
"""What torch says of a GPU, and of main memory on Unix and on Windows; to name its errors, it would be imported."""


_WRONG_CHOICE = re.compile(r"invalid choice: '(?P<given>.*)' \(choose from (?P<choices>.*)\)")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others of this program."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Keep the line, for a message about a required option that was misspelt."""
        self._given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise what the command line prints."""
        raise CaptionerError(f"{message}{self._right_names(message)}; {self.prog} --help tells the options")

    def _right_names(self, message: str) -> str:
        """The names that are nearest to a misspelt one."""
        if choice := _WRONG_CHOICE.search(message):
            return did_you_mean(choice["given"], choice["choices"].replace("'", "").split(", "))
        if "unrecognized" in message or "required" in message:
            words = [word.partition("=")[0] for word in self._given if word.startswith("--") and word != "--"]
            for word in words:
                if word not in self._option_string_actions:
                    told = did_you_mean(word, self._option_string_actions)
                    return told if "unrecognized" in message else f"; there is no option {word}{told}"
        return ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: The words after ``captioner``; those of the process by default.

    Returns:
        The exit code: 0; 1 when some image could not be captioned; 2 for wrong use; 130 after Ctrl-C.
    """
    _open_streams()
    verb = next(iter(sys.argv[1:] if argv is None else argv), "")
    try:
        with interruptible():
            code = _run(argv)
            sys.stdout.flush()
        return code
    except CaptionerError as error:
        print_status(f"captioner: {message_of(error, verb)}")
        return EXIT_WRONG_USE
    except KeyboardInterrupt:
        print_status("captioner: interrupted")
        return EXIT_INTERRUPTED
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(str(error)):
            raise
        print_status("captioner: the memory is full; lower the batch size, or the beam size and the like")
        return EXIT_WRONG_USE
    except BrokenPipeError:  # the reader (head, less) has gone
        _mute_output()
        return EXIT_OK
    except OSError as error:
        path = printable(str(error.filename or "standard output"))
        print_status(f"captioner: {path}: {error.strerror or error}")
        _mute_output()
        return EXIT_WRONG_USE


def _open_streams() -> None:
    """Give a process that was started without standard streams (``>&-``, some daemons) empty ones.

    What a terminal's encoding lacks, such as a help text's dash, is written as an escape.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (open until the process ends)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _mute_output() -> None:
    """Points standard output elsewhere, so that the interpreter's own flush at exit does not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all verbs."""
    parser = Parser(prog="captioner", description="Caption photographs.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"captioner {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name in VERBS:
        verb = importlib.import_module(f"captioner.cli.{name}")
        # `train` hands its line, --help included, to LightningCLI.
        own = verbs.add_parser(
            name, help=verb.SUMMARY, description=verb.SUMMARY, allow_abbrev=False, add_help=name != "train"
        )
        verb.add_arguments(own)
        own.set_defaults(run=verb.run, error=own.error, files=getattr(verb, "FILES", None))
    return parser


def _run(argv: Sequence[str] | None) -> int:
    args, rest = make_parser().parse_known_args(argv)
    if args.verb == "train":
        args.rest = rest
    else:
        _take(rest, args)
        # What a shell makes of a variable that is not set.
        for name, value in vars(args).items():
            if value == "" or (isinstance(value, list) and "" in value):
                raise CaptionerError(f"{name.replace('_', '-')} is an empty text; leave it out, or name something")
    code: int = args.run(args)
    return code


def _take(rest: list[str], args: argparse.Namespace) -> None:
    """Add what stands after an option to a verb's files: argparse takes those of one place in the line alone.

    Args:
        rest: What argparse left over, such as ``b.jpg`` of ``a.jpg --json b.jpg``.
        args: What it took.

    Raises:
        CaptionerError: Some of it is an option, or the verb has one file.
    """
    if not rest:
        return
    end = rest.index("--") if "--" in rest else len(rest)
    if args.files is None or any(word.startswith("-") and word != "-" for word in rest[:end]):
        args.error(f"unrecognized arguments: {' '.join(rest)}")
    getattr(args, args.files).extend(rest[:end] + rest[end + 1 :])
