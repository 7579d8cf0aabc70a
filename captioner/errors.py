"""The exception for errors that the user can fix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

TRAIN_PACKAGES = frozenset(
    {"torch", "torchvision", "timm", "lightning", "jsonargparse", "tensorboard", "safetensors", "onnx", "onnx_ir"}
    | {"onnxscript", "matplotlib"}
)
"""What the extra ``train`` installs, by the names that are imported."""

INSTALLED_BY = {
    **dict.fromkeys(("onnxruntime", "PIL", "rich", "markdown_it", "shtab"), "captioner"),
    **dict.fromkeys(TRAIN_PACKAGES, "captioner[train]"),
    "huggingface_hub": "captioner[hub]",
}
"""What to install for packages that parts of this project do without, by the names that are imported."""


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
def needs_packages(what: str) -> Iterator[None]:
    """Tell how to install a package that is missing.

    Args:
        what: Needs it.

    Raises:
        CaptionerError: A package of `INSTALLED_BY` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = INSTALLED_BY.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        raise CaptionerError(f"{what} needs {error.name}; run pip install '{package}'") from error
