"""The exception for errors that the user can fix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

TRAIN_PACKAGES = frozenset(
    {"torch", "torchvision", "timm", "lightning", "jsonargparse", "tensorboard", "safetensors", "onnx", "onnx_ir"}
    | {"onnxscript", "matplotlib"}
)
"""What the extra ``train`` installs, by the names that are imported."""


class CaptionerError(Exception):
    """Raised for errors that the user can fix; the message is one line: the thing, its value, and the cure.

    The command line prints it without a traceback. Any other exception is a bug in this project.

    Args:
        message: The message.
        parameter: Name of the parameter that the cure, at the end of the message, sets; the command line names its own
            option instead.
    """

    def __init__(self, message: str = "", parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


def first_line(error: Exception) -> str:
    """First line of an error's message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def needs_training_packages(what: str) -> Iterator[None]:
    """Says how to install torch, and what comes with it, where it is missing.

    Args:
        what: Is wanted.

    Raises:
        CaptionerError: A package of the extra ``train`` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in TRAIN_PACKAGES:
            raise
        raise CaptionerError(f"{what} needs {error.name}; run pip install 'captioner[train]'") from error
