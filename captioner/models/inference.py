"""How precisely captions are computed: float32, or bfloat16 where the processor multiplies that faster."""

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
"""What Linux calls the instructions that multiply bfloat16; without them it is slower than float32."""


class Dtypes(NamedTuple):
    """What the two halves of a network compute with."""

    encoder: torch.dtype
    decoder: torch.dtype


def choose_dtypes(precision: str, device: torch.device) -> Dtypes:
    """The types to compute with.

    Args:
        precision: One of `PRECISIONS`; ``auto`` is bfloat16 for the decoder on CPUs that multiply it faster, otherwise
            float32. The embedded model's scores stay within 0.5 % with ``auto``, and within about 1 % with both halves
            in bfloat16 (docs/performance.md).
        device: Where the network runs.

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
    """Whether this CPU has instructions for bfloat16, as far as Linux tells.

    Args:
        cpu: The file in which it does.
    """
    try:
        lines = cpu.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    return any(not _FLAGS.isdisjoint(line.split()) for line in lines if line.startswith("flags"))


def prepare(model: CaptionModel, dtypes: Dtypes, encoder: GridEncoder | None = None) -> CaptionModel:
    """A network that computes the same captions faster and is good for nothing else.

    Args:
        model: The network, which stays as it is.
        dtypes: What to compute with.
        encoder: The prepared encoder of another network that sees the same; None prepares the network's own.

    Returns:
        A copy, but for an encoder that stays as it is.
    """
    if encoder is None and dtypes.encoder == torch.float32 and not isinstance(model.encoder.trunk, EfficientNetLite):
        encoder = model.encoder
    prepared = copy.deepcopy(model, {} if encoder is None else {id(model.encoder): encoder})
    if encoder is None:
        if isinstance(prepared.encoder.trunk, EfficientNetLite):
            prepared.encoder.trunk.fold_batch_norm()
        prepared.encoder.to(dtypes.encoder)
        if prepared.encoder.projection is not None:
            prepared.encoder.projection.to(dtypes.decoder)  # one product for all images, in what the decoder reads
    convert(prepared.decoder, dtypes.decoder)
    return prepared


def convert(decoder: DecoderT, dtype: torch.dtype) -> DecoderT:
    """Has a decoder write captions in a type, with its matrices laid out for that.

    bfloat16 rounds a logit of 10 by up to 0.03, which decides between captions that are nearly as likely. So all of
    them are lowered by log Σ exp of the bias, which changes no probability: those of likely words are then nearer to 0,
    and rounded less.

    Args:
        decoder: Changed in place, and returned; its weights must stay as they are from now on.
        dtype: What grids have to be of from now on.
    """
    for member in decoder.members:
        member.core.to(dtype)
        member.reduction.to(dtype)
        # Rows of an embedding that is no output layer too are read, not multiplied.
        words = member.output or member.embedding
        # Elsewhere words stay float32: torch's own products round before a bias of float32 is added.
        if dtype == torch.bfloat16 and can_pack(words.weight, dtype):
            words.to(dtype)
            member.output_bias.data -= member.output_bias.data.logsumexp(0)
        for part in (member.core, member.reduction, words):
            pack(part)
        member.project_tokens()
    return decoder
