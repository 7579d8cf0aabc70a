"""What tells weights from others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

_ENCODER = "encoder."


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors, in their order, names included."""
    digest = hashlib.sha256()
    for name, value in tensors.items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def hash_encoder(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of a model's encoder, whatever the precision and the order that it is kept in."""
    parts = sorted(encoder_of(weights).items())
    return hash_tensors({name: value.float() if value.is_floating_point() else value for name, value in parts})


def encoder_of(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's part of a state dict."""
    return {name: value for name, value in weights.items() if name.startswith(_ENCODER)}
