"""The files of models, among them the embedded one, which is part of the package."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TypeAlias

from captioner.checkpoint.file_names import ONNX, SAFETENSORS, language_files
from captioner.checkpoint.hub import fetch, is_hub_name
from captioner.errors import CaptionerError

FileName: TypeAlias = str | os.PathLike[str]

DEFAULT = "default"

_OWN_LANGUAGE = "en"
"""The embedded model's own language."""


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


def checkpoint_of(model: FileName, exported: bool = False, language: str | None = None) -> FileName:
    """Path of a model: ``default`` is the embedded one, ``hf://…`` one on the Hub, anything else is a path.

    A file named ``default`` is ``./default``.

    Args:
        model: The name.
        exported: Whether, of the first two, the graphs for onnxruntime are wanted.
        language: One of `languages_of` the model; None is that of its own file.

    Raises:
        CaptionerError: It is named as one on the Hub, and cannot be downloaded; or it has no such language.
    """
    if language is not None:
        return _file_of(model, exported, language)
    if is_hub_name(model):
        return fetch(model, exported)
    return _embedded(exported) if model == DEFAULT else model


def languages_of(model: FileName, exported: bool = False) -> dict[str, Path]:
    """The known languages of a model that is not on the Hub, and their files.

    Args:
        model: The name, as for `checkpoint_of`.
        exported: As for `checkpoint_of`.

    Returns:
        The embedded model's own language, and those whose files are beside a model's (`language_files`).
    """
    if model == DEFAULT:
        path = Path(_embedded(exported))
        return {_OWN_LANGUAGE: path, **language_files(path)}
    return language_files(Path(model))


def _file_of(model: FileName, exported: bool, language: str) -> FileName:
    if is_hub_name(model):
        raise CaptionerError(f"{model}: a model on the Hub has one language; name the other language's repository")
    if model != DEFAULT and not Path(model).exists():
        return model  # whoever opens it tells what is wrong
    languages = languages_of(model, exported)
    for known, file in languages.items():
        if known.lower() == language.lower():
            return file
    name = "the embedded model" if model == DEFAULT else f"model {model}"
    cure = f"choose {' or '.join(languages)}" if languages else "leave the language out"
    raise CaptionerError(f"{name}: has no captions in {language!r}; {cure}")


def _embedded(exported: bool) -> FileName:
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
