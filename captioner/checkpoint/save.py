"""Atomic writing of checkpoints."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from captioner.checkpoint.checkpoint import Checkpoint, refuse_other_words
from captioner.checkpoint.digest import encoder_of, hash_encoder
from captioner.checkpoint.file_names import SAFETENSORS, without_language
from captioner.checkpoint.load import read_members
from captioner.checkpoint.quantization import STEPS, are_rounded, quantize
from captioner.checkpoint.schema import ALL, DECODER_FORMAT, ENSEMBLE_FORMAT, METADATA_KEY, TOKENIZER_FORMAT
from captioner.errors import CaptionerError
from captioner.utils.files import replacing


def write(path: str | os.PathLike[str], *members: Checkpoint, dtype: torch.dtype = torch.float32) -> None:
    """Write a checkpoint atomically.

    Args:
        path: The file.
        *members: The model; several with one vocabulary are an ensemble, with the model card of the first.
        dtype: Precision of matrices and kernels. int8 quantizes matrices (`captioner.checkpoint.quantization`), and
            keeps kernels in float16 unless they are rounded already: rounding those of fifty consecutive convolutions
            changed the small model's grid by 14 % (docs/runs.md), and is better done before its decoder is trained.
            Vectors (biases, batch statistics) stay float32: they are small, and batch variances exceed the range of
            float16.

    Raises:
        CaptionerError: The file cannot be written, or the vocabularies differ.
    """
    refuse_other_words(members)
    first, *others = members
    named = first.weights
    header = first.header()
    if others:
        shared = {name for name in first.weights if all(_same(name, first, other) for other in others)}
        named = {f"{ALL}.{name}": first.weights[name] for name in shared}
        for index, member in enumerate(members):
            named |= {f"{index}.{name}": value for name, value in member.weights.items() if name not in shared}
        content = {key: value for key, value in json.loads(header).items() if key != "config"}
        configs = [asdict(each.config) for each in members]
        format_ = ENSEMBLE_FORMAT if first.tokenizer is None else TOKENIZER_FORMAT
        header = json.dumps({**content, "format": format_, "members": configs})
    _save(path, named, header, dtype)


def write_decoder(path: str | os.PathLike[str], model: Checkpoint, dtype: torch.dtype = torch.float32) -> None:
    """Write a model without its encoder, which the file has that this one is named after.

    A model's further languages are such decoders: ``photos.de.safetensors`` beside ``photos.safetensors``.

    Args:
        path: The file, named NAME.LANGUAGE.safetensors.
        model: The model, whose encoder is bit for bit that of NAME.safetensors beside the file.
        dtype: As for `write`.

    Raises:
        CaptionerError: The path names no language, there is no such file beside it, its encoder is another, or the file
            cannot be written.
    """
    beside = without_language(Path(path))
    if beside is None:
        raise CaptionerError(
            f"{path}: says no language, nor whose encoder it needs; name it like photos.de{SAFETENSORS}, for the "
            f"encoder of photos{SAFETENSORS}"
        )
    encoder = hash_encoder(model.weights)
    if encoder != hash_encoder(read_members(beside)[0].weights):
        raise CaptionerError(
            f"{model.origin}: its encoder is not that of {beside}; train the decoder on that one, frozen, or keep it"
        )
    header = json.loads(model.header()) | {"format": DECODER_FORMAT, "encoder": encoder}
    others = encoder_of(model.weights)
    own = {name: value for name, value in model.weights.items() if name not in others}
    _save(path, own, json.dumps(header), dtype)


def _save(path: str | os.PathLike[str], named: Mapping[str, Tensor], header: str, dtype: torch.dtype) -> None:
    weights = {}
    for name, value in named.items():
        if not value.is_floating_point() or value.ndim < 2:
            weights[name] = value
        elif dtype != torch.int8:
            weights[name] = value.to(dtype)
        elif value.ndim > 2 and not are_rounded(value):
            weights[name] = value.half()
        else:
            weights[name], weights[name + STEPS] = quantize(value)
    weights = {name: value.contiguous().cpu() for name, value in weights.items()}
    with replacing(path) as temporary:
        try:
            save_file(weights, temporary, {METADATA_KEY: header})
        except SafetensorError as error:  # of a failed write it keeps the reason as text alone
            raise OSError(None, str(error)) from error


def _same(name: str, one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two models have the same tensor, whatever its data type."""
    left, right = one.weights[name], other.weights.get(name)
    return right is not None and left.shape == right.shape and bool((left == right).all())
