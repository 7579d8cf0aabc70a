"""How the files of models are called."""

from __future__ import annotations

import glob
import re
from pathlib import Path

SAFETENSORS = ".safetensors"
"""How the names of checkpoints end."""

ONNX = ".onnx"
"""How the names of exported graphs end."""

_STEP = ".step"

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*", re.IGNORECASE)
"""How languages are called (BCP 47): ``de``, ``pt-BR``."""


def step_file(path: Path) -> Path:
    """The file of the step that belongs to an encoder's."""
    return path.with_name(f"{path.stem}{_STEP}{path.suffix}")


def language_files(path: Path) -> dict[str, Path]:
    """The files of a model's further languages, by language: ``photos.de.onnx`` beside ``photos.onnx``."""
    found = {}
    for file in sorted(path.parent.glob(f"{glob.escape(path.stem)}.*{path.suffix}")):
        language = file.stem.removeprefix(f"{path.stem}.")
        if _LANGUAGE.fullmatch(language):
            found[language] = file
    return found


def without_language(path: Path) -> Path | None:
    """The file of the model whose further language a file holds; None if its name says none."""
    stem, _, language = path.stem.rpartition(".")
    return path.with_name(f"{stem}{path.suffix}") if stem and _LANGUAGE.fullmatch(language) else None
