"""Precision of inference: float32, or bfloat16 where the processor is faster with it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from captioner.errors import CaptionerError
from captioner.models.captioner import CaptionModel
from captioner.models.decoder import Decoder, MemberDecoders
from captioner.models.decoder.ops import can_pack, pack
from captioner.models.efficientnet_lite import EfficientNetLite
from captioner.models.encoder import GridEncoder

DecoderT = TypeVar("DecoderT", bound=Decoder | MemberDecoders)

PRECISIONS = ("auto", "float32", "bfloat16")

_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""Linux's names of the instructions for bfloat16 products; without them bfloat16 is slower than float32."""


class Dtypes(NamedTuple):
    """Data types of encoder and decoder."""

    encoder: torch.dtype
    decoder: torch.dtype


def choose_dtypes(precision: str, device: torch.device) -> Dtypes:
    """Choose the data types of encoder and decoder.

    Args:
        precision: One of `PRECISIONS`; ``auto`` is bfloat16 for the decoder on CPUs where that is faster, otherwise
            float32. The scores of the embedded model change by up to 0.5 % with ``auto``, and by about 1 % with both
            in bfloat16 (docs/performance.md).
        device: Device of the network.

    Raises:
        CaptionerError: There is no such precision.
    """
    if precision not in PRECISIONS:
        raise CaptionerError(f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
    fast = device.type == "cpu" and has_fast_bfloat16()
    return Dtypes(
        encoder=torch.bfloat16 if precision == "bfloat16" else torch.float32,
        decoder=torch.bfloat16 if precision == "bfloat16" or (precision == "auto" and fast) else torch.float32,
    )


def has_fast_bfloat16(cpu: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU has instructions for bfloat16, according to Linux.

    Args:
        cpu: The file with the CPU's features.
    """
    try:
        lines = cpu.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    return any(not _FLAGS.isdisjoint(line.split()) for line in lines if line.startswith("flags"))


def prepare(model: CaptionModel, dtypes: Dtypes, encoder: GridEncoder | None = None) -> CaptionModel:
    """Build a copy of a network that is optimized for inference.

    Args:
        model: The network, which is not changed.
        dtypes: Data types of encoder and decoder.
        encoder: The prepared encoder of another network if it is the same; None prepares the network's own.

    Returns:
        The copy, which shares an encoder that needs no preparation.
    """
    if encoder is None and dtypes.encoder == torch.float32 and not isinstance(model.encoder.trunk, EfficientNetLite):
        encoder = model.encoder
    prepared = copy.deepcopy(model, {} if encoder is None else {id(model.encoder): encoder})
    if encoder is None:
        if isinstance(prepared.encoder.trunk, EfficientNetLite):
            prepared.encoder.trunk.fold_batch_norm()
        prepared.encoder.to(dtypes.encoder)
        if prepared.encoder.projection is not None:
            prepared.encoder.projection.to(dtypes.decoder)  # one product for all images, in the decoder's precision
    convert(prepared.decoder, dtypes.decoder)
    return prepared


def convert(decoder: DecoderT, dtype: torch.dtype) -> DecoderT:
    """Convert a decoder to a data type for inference, and pack its matrices.

    bfloat16 rounds a logit of 10 by up to 0.03, which can decide between captions of similar probability. So all logits
    are lowered by log Σ exp of the bias, which changes no probability: those of likely tokens are then closer to 0, and
    rounded less.

    Args:
        decoder: The decoder, which is changed in place and returned; its weights must not change afterwards.
        dtype: Data type of the decoder, and of its grids from now on.
    """
    for member in decoder.members:
        member.core.to(dtype)
        member.reduction.to(dtype)
        # An embedding that is not the output layer as well is only indexed, never multiplied.
        words = member.output or member.embedding
        # Without packing, the output layer stays float32: torch's own products round before a float32 bias is added.
        if dtype == torch.bfloat16 and can_pack(words.weight, dtype):
            words.to(dtype)
            member.output_bias.data -= member.output_bias.data.logsumexp(0)
        for part in (member.core, member.reduction, words):
            pack(part)
        member.project_tokens()
    return decoder
