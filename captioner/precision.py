"""How precisely captions are computed: float32, or bfloat16 where the processor multiplies that faster."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from captioner.efficientnet_lite import EfficientNetLite
from captioner.errors import CaptionerError
from captioner.model import CaptionModel

PRECISIONS = ("auto", "float32", "bfloat16")

_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""What Linux calls the instructions that multiply bfloat16; without them it is slower than float32."""


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type to compute with.

    Args:
        precision: One of `PRECISIONS`; ``auto`` is bfloat16 on CPUs that multiply it faster, otherwise float32.
        device: Where the network runs.

    Raises:
        CaptionerError: There is no such precision.
    """
    if precision not in PRECISIONS:
        raise CaptionerError(f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
    if precision == "auto":
        precision = "bfloat16" if device.type == "cpu" and has_fast_bfloat16() else "float32"
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def has_fast_bfloat16(cpu: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU has instructions for bfloat16, as far as Linux tells.

    Args:
        cpu: The file in which it does.
    """
    try:
        return any(not _FLAGS.isdisjoint(line.split()) for line in cpu.open() if line.startswith("flags"))
    except OSError:
        return False


def prepare(model: CaptionModel, dtype: torch.dtype) -> CaptionModel:
    """A network that computes the same captions faster and is good for nothing else.

    Args:
        model: The network, which stays as it is.
        dtype: What to compute with.

    Returns:
        A copy, or the network itself where there is nothing to gain.
    """
    trunk = model.encoder.trunk
    if dtype == torch.float32 and not isinstance(trunk, EfficientNetLite):
        return model
    prepared = copy.deepcopy(model)
    if isinstance(prepared.encoder.trunk, EfficientNetLite):
        prepared.encoder.trunk.fold_batch_norm()
    return prepared.to(dtype)
