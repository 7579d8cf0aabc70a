"""The models inside the package, which need no file and no internet."""

from __future__ import annotations

import os
from importlib import resources

DEFAULT = "default"
SMALL = "small"

_FILES = {DEFAULT: "captioner.safetensors", SMALL: "small.safetensors"}


def checkpoint_of(model: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The file of a model: of an embedded one by its name, ``default`` or ``small``; a path is its own.

    A file of one of these names is ``./small``.
    """
    if model not in _FILES:
        return model
    file = resources.files("captioner") / "pretrained" / _FILES[str(model)]
    assert isinstance(file, os.PathLike)
    return file
