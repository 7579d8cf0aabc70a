"""The command line: one module a verb, each with ``SUMMARY``, ``add_arguments(parser)`` and ``run(args)``.

``FILES`` names the argument of a verb that takes several files. A verb module imports expensive modules such as torch
inside ``run``, so that ``captioner --help`` is fast and ``captioner score`` never loads torch.
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
from captioner.errors import CaptionerError, needs_packages
from captioner.utils.console import print_status, printable
from captioner.utils.nearest import did_you_mean
from captioner.utils.signals import EXIT_INTERRUPTED

VERBS = (
    "caption",
    "write",
    "visualize",
    "pack",
    "train",
    "serve",
    "evaluate",
    "score",
    "calibrate",
    "sample",
    "info",
    "export",
    "push",
    "completion",
)

EXIT_OK = 0
EXIT_WRONG_USE = 2

_OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory|not enough memory")
"""torch's messages for a GPU, and for main memory on Unix and Windows; naming its error classes would import torch."""


_WRONG_CHOICE = re.compile(r"invalid choice: '(?P<given>.*)' \(choose from (?P<choices>.*)\)")


class Parser(argparse.ArgumentParser):
    """A parser with one-line errors."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Remember the arguments, for messages about a misspelled required option."""
        self._given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise a one-line error."""
        raise CaptionerError(f"{message}{self._right_names(message)}; {self.prog} --help lists the options")

    def _right_names(self, message: str) -> str:
        """Suggest the names nearest to a misspelled one."""
        if choice := _WRONG_CHOICE.search(message):
            return did_you_mean(choice["given"], choice["choices"].replace("'", "").split(", "))
        if "unrecognized" in message or "required" in message:
            words = [word.partition("=")[0] for word in self._given if word.startswith("--") and word != "--"]
            for word in words:
                if word not in self._option_string_actions:
                    told = did_you_mean(word, self._option_string_actions)
                    return told if "unrecognized" in message else f"; there is no option {word}{told}"
            takes_files = bool(self._get_positional_actions()) or "--model" not in self._option_string_actions
            if "unrecognized" in message and not takes_files:
                return f"; files are given by options, such as --model {message.partition('arguments: ')[2].split()[0]}"
        return ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: The arguments after ``captioner``; those of the process by default.

    Returns:
        The exit code: 0 for success, 1 if an image could not be captioned, 2 for wrong usage, 130 after Ctrl-C.
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
        print_status("captioner: out of memory; reduce the batch size or the beam size")
        return EXIT_WRONG_USE
    except BrokenPipeError:  # the reader (head, less) has exited
        _mute_output()
        return EXIT_OK
    except OSError as error:
        path = printable(str(error.filename or "standard output"))
        print_status(f"captioner: {path}: {error.strerror or error}")
        _mute_output()
        return EXIT_WRONG_USE


def _open_streams() -> None:
    """Open empty standard streams in a process that was started without (``>&-``, some daemons).

    Characters that the terminal's encoding lacks are written as escapes.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (open until the process ends)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _mute_output() -> None:
    """Redirect standard output, so that the interpreter's flush at exit does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_parser() -> argparse.ArgumentParser:
    """Build the parser of all verbs."""
    parser = Parser(prog="captioner", description="Caption photographs.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"captioner {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name in VERBS:
        verb = importlib.import_module(f"captioner.cli.{name}")
        # `train` passes its arguments, --help included, to LightningCLI.
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
        # The result of an unset shell variable.
        for name, value in vars(args).items():
            if value == "" or (isinstance(value, list) and "" in value):
                raise CaptionerError(f"{name.replace('_', '-')} is an empty text; leave it out, or name something")
    with needs_packages(f"captioner {args.verb}"):
        code: int = args.run(args)
    return code


def _take(rest: list[str], args: argparse.Namespace) -> None:
    """Add files that follow an option to a verb's files; argparse only takes those in one place.

    Args:
        rest: Arguments that argparse left over, such as ``b.jpg`` of ``a.jpg --json b.jpg``.
        args: The parsed arguments.

    Raises:
        CaptionerError: One of them is an option, or the verb takes one file.
    """
    if not rest:
        return
    end = rest.index("--") if "--" in rest else len(rest)
    if args.files is None or any(word.startswith("-") and word != "-" for word in rest[:end]):
        args.error(f"unrecognized arguments: {' '.join(rest)}")
    getattr(args, args.files).extend(rest[:end] + rest[end + 1 :])
