"""The files of models, among them the embedded one, which is part of the package."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TypeAlias

from captioner.checkpoint.file_names import ONNX, SAFETENSORS
from captioner.checkpoint.hub import fetch, is_hub_name
from captioner.errors import CaptionerError

FileName: TypeAlias = str | os.PathLike[str]

DEFAULT = "default"


def names_of(models: FileName | Sequence[FileName] | None) -> Sequence[FileName]:
    """The models that were asked for: one, several, or by default the embedded one.

    Raises:
        CaptionerError: There is none, or one is no path.
    """
    names = [DEFAULT] if models is None else [models] if isinstance(models, (str, os.PathLike)) else models
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, (str, os.PathLike)) for name in names):
        raise CaptionerError(f"a checkpoint is {models!r}; give the path of a file, or a list of them")
    if not names:
        raise CaptionerError("the list of checkpoints is empty; name one, or leave it out for the embedded one")
    return names


def checkpoint_of(model: FileName, exported: bool = False) -> FileName:
    """Path of a model: ``default`` is the embedded one, ``hf://…`` one on the Hub, anything else is a path.

    A file named ``default`` is ``./default``.

    Args:
        model: The name.
        exported: Whether, of the first two, the graphs for onnxruntime are wanted.

    Raises:
        CaptionerError: It is named as one on the Hub, and cannot be downloaded.
    """
    if is_hub_name(model):
        return fetch(model, exported)
    if model != DEFAULT:
        return model
    file = resources.files("captioner") / "pretrained" / f"captioner{ONNX if exported else SAFETENSORS}"
    assert isinstance(file, os.PathLike)
    return file


def digest_of(path: FileName) -> str:
    """SHA-256 of a model's file, as hexadecimal digits.

    Args:
        path: What `checkpoint_of` returns.

    Raises:
        CaptionerError: It cannot be read.
    """
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise CaptionerError(f"checkpoint {path}: cannot be read: {error.strerror or error}") from error
