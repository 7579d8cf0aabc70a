"""The embedded model, which is part of the package."""

from __future__ import annotations

import os
from importlib import resources

DEFAULT = "default"


def checkpoint_of(model: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Path of a model: ``default`` is the embedded one, anything else is a path.

    A file named ``default`` is ``./default``.
    """
    if model != DEFAULT:
        return model
    file = resources.files("captioner") / "pretrained" / "captioner.safetensors"
    assert isinstance(file, os.PathLike)
    return file
