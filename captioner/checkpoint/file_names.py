"""How the files of models are called."""

from __future__ import annotations

from pathlib import Path

SAFETENSORS = ".safetensors"
"""How the names of checkpoints end."""

ONNX = ".onnx"
"""How the names of exported graphs end."""

_STEP = ".step"


def step_file(path: Path) -> Path:
    """The file of the step that belongs to an encoder's."""
    return path.with_name(f"{path.stem}{_STEP}{path.suffix}")
