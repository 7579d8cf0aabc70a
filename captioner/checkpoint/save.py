"""Atomic writing of checkpoints."""

from __future__ import annotations

import json
import os
from dataclasses import asdict

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from captioner.checkpoint.checkpoint import Checkpoint, refuse_other_words
from captioner.checkpoint.quantization import STEPS, are_rounded, quantize
from captioner.checkpoint.schema import ALL, ENSEMBLE_FORMAT, METADATA_KEY, TOKENIZER_FORMAT
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
