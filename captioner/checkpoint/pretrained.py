"""The model inside the package, which needs no file and no internet."""

from __future__ import annotations

import os
from importlib import resources

DEFAULT = "default"


def checkpoint_of(model: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The file of a model: of the embedded one by its name, ``default``; a path is its own.

    A file of that name is ``./default``.
    """
    if model != DEFAULT:
        return model
    file = resources.files("captioner") / "pretrained" / "captioner.safetensors"
    assert isinstance(file, os.PathLike)
    return file
