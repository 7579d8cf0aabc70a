"""Formatting of the library's error messages for the command line."""

from __future__ import annotations

from captioner.errors import CaptionerError
from captioner.utils.console import printable

_SWITCHES = ("images_anywhere",)
"""Parameters that are options without a value, except where training has them."""


def message_of(error: CaptionerError, verb: str = "") -> str:
    """Return an error's message, printable, with the option of a verb in place of the parameter that its cure names.

    Args:
        error: The error; its message ends with the cure.
        verb: The verb that raised it. ``train`` has the parameters of the data as ``--data.NAME``.
    """
    if error.parameter is None:
        return printable(str(error))
    value = " true" if error.parameter in _SWITCHES else ""
    option = f"--data.{error.parameter}{value}" if verb == "train" else f"--{error.parameter.replace('_', '-')}"
    before, _, after = str(error).rpartition(error.parameter)
    return printable(f"{before}{option}{after}")
