"""Safe reading of checkpoints, this project's and Lightning's: no code is run, and damaged files are refused."""

from __future__ import annotations

import json
import os
import re
import warnings
import zipfile
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from captioner.checkpoint.checkpoint import Checkpoint, naming
from captioner.checkpoint.digest import encoder_of, hash_encoder
from captioner.checkpoint.file_names import without_language
from captioner.checkpoint.pretrained import checkpoint_of
from captioner.checkpoint.quantization import dequantize
from captioner.checkpoint.schema import ALL, DECODER_FORMAT, METADATA_KEY, parse
from captioner.errors import CaptionerError, first_line
from captioner.utils.file_kinds import LOOKED_AT, FileKind, identify
from captioner.utils.spelling import as_written, tell_missing

_LIGHTNING_PREFIX = "model."
"""Prefix of the parameters of the `CaptionModel` in a Lightning checkpoint."""

_NARROW = {"I8": torch.int8, "F16": torch.float16, "BF16": torch.bfloat16}
"""Data types of matrices in a file, the determining ones first."""

_HUB_PAGE = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<model>[\w.-]+/[\w.-]+)")
_ZIP_MAGIC = b"PK\x03\x04"

_ENDINGS = (".safetensors", ".ckpt")


def read(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint of one model.

    Raises:
        CaptionerError: As for `read_members`, or the checkpoint is an ensemble.
    """
    first, *others = read_members(path)
    if others:
        raise CaptionerError(f"checkpoint {path}: is an ensemble of {1 + len(others)} models; give a file of one")
    return first


def read_members(path: str | os.PathLike[str]) -> list[Checkpoint]:
    """Read the models of a checkpoint, exported or written by Lightning in training; no code in it is run.

    Args:
        path: The file, or a name that `captioner.load` takes: ``default``, or ``hf://owner/name``.

    Returns:
        The model, or those of an ensemble, in order.

    Raises:
        CaptionerError: There is no such file, or it is not a checkpoint that can be read safely.
    """
    path = checkpoint_of(path)
    name, path = os.fspath(path), Path(path)
    try:
        with path.open("rb") as file:
            is_zip = file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC
        weights, header = _read_lightning(path) if is_zip else _read_safetensors(path)
    except FileNotFoundError:
        told = as_written(name)
        if on_hub := _HUB_PAGE.match(told):
            raise CaptionerError(f"checkpoint {told}: is a page; give hf://{on_hub['model']}") from None
        raise CaptionerError(f"checkpoint {told}: {tell_missing(name)}") from None
    except IsADirectoryError:
        raise CaptionerError(f"checkpoint {path}: is a folder; {_name_one_in(path)}") from None
    except OSError as error:
        raise CaptionerError(f"checkpoint {path}: cannot be read: {error.strerror or error}") from error
    if header is None:
        raise CaptionerError(f"checkpoint {path}: was not written by captioner; give a file made by captioner train")
    origin = f"checkpoint {path}"
    with naming(origin):
        configs, words, card, tokenizer, encoder = parse(header)
        weights = dequantize(weights)
        if encoder is not None:
            weights |= _encoder_beside(path, encoder)
    if not isinstance(configs, list):
        return [Checkpoint(configs, words, weights, card, origin, tokenizer)]
    owners: dict[str, dict[str, Tensor]] = {}
    for name, value in weights.items():
        owner, _, rest = name.partition(".")
        owners.setdefault(owner, {})[rest] = value
    members = []
    for index, config in enumerate(configs):
        own = owners.get(ALL, {}) | owners.get(str(index), {})
        name = f"{origin}, model {1 + index} of {len(configs)}"
        members.append(Checkpoint(config, words, own, card, name, tokenizer))
    return members


def files_of(path: Path) -> list[Path]:
    """The files with the tensors of a safetensors checkpoint: its own, and for a decoder alone that of its encoder.

    Args:
        path: A file that `read_members` reads.
    """
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[METADATA_KEY])
    beside = without_language(path) if header["format"] == DECODER_FORMAT else None
    return [path] if beside is None else [path, *files_of(beside)]


def matrix_dtype(path: str | os.PathLike[str]) -> torch.dtype:
    """The precision that a checkpoint keeps its matrices in, as `write` takes it; float32 for one of Lightning's.

    Args:
        path: A file that `read_members` reads.
    """
    with Path(path).open("rb") as opened:
        if opened.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC:
            return torch.float32
    with safe_open(path, framework="pt") as file:
        parts = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118 (no dict)
        kinds = {part.get_dtype() for part in parts if len(part.get_shape()) > 1}
    return next((dtype for kind, dtype in _NARROW.items() if kind in kinds), torch.float32)


def _encoder_beside(path: Path, expected: str) -> dict[str, Tensor]:
    """The encoder of a decoder alone, from the file that its own is named after."""
    file = without_language(path)
    if file is None:
        raise CaptionerError("holds a decoder alone; name it after its encoder's file, such as photos.de.safetensors")
    if not file.is_file():
        raise CaptionerError(f"holds a decoder alone, whose encoder is in {file.name}; put that beside it")
    encoder = encoder_of(read_members(file)[0].weights)
    if hash_encoder(encoder) != expected:
        raise CaptionerError(f"was trained on another encoder than that of {file.name}; get one that belongs to it")
    return encoder


def _name_one_in(folder: Path) -> str:
    """Suggest a file in a folder: a run's final checkpoint, else one to resume from."""
    found = [path for end in _ENDINGS for path in sorted(folder.glob(f"*{end}"))]
    return f"give {found[0]}" if found else "it has no checkpoint (.safetensors, .ckpt); give a file"


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(METADATA_KEY)
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118 (no dict)
    # Types, shapes and offsets in a damaged header lead to exceptions of several kinds.
    except Exception as error:
        kind = _kind(path)
        told = f"is no safetensors file or was cut ({first_line(error)})" if kind is None else f"is {kind.name}"
        cure = kind.cure if kind is not None and kind.cure else "give one made by captioner train"
        raise CaptionerError(f"checkpoint {path}: {told}; {cure}") from error


def _kind(path: Path) -> FileKind | None:
    try:
        with path.open("rb") as file:
            return identify(file.read(LOOKED_AT))
    except OSError:
        return None


def _read_lightning(path: Path) -> tuple[dict[str, Tensor], str | None]:
    _refuse_bomb(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
        header = content.get(METADATA_KEY)
        state = content["state_dict"]
        weights = {name.removeprefix(_LIGHTNING_PREFIX): value for name, value in state.items()}
    # The restricted unpickler runs no code, but damaged and hostile files make it raise almost any exception.
    except Exception as error:
        raise CaptionerError(
            f"checkpoint {path}: was not written by captioner, or is damaged, or would run code; it was not opened"
        ) from error
    if not all(isinstance(value, Tensor) for value in weights.values()) or not isinstance(header, (str, type(None))):
        raise CaptionerError(f"checkpoint {path}: has other content than tensors; it cannot be used")
    for name, value in weights.items():
        # A view can repeat one value a billion times.
        if value.layout != torch.strided or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise CaptionerError(f"checkpoint {path}: its weights {name} are not all there; it cannot be used")
    return weights, header


def _refuse_bomb(path: Path) -> None:
    """Refuse a compressed archive: Lightning's files are zip archives without compression."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise CaptionerError(
            f"checkpoint {path}: is damaged or truncated ({first_line(error)}); get a complete copy"
        ) from error
    if size > path.stat().st_size:
        raise CaptionerError(f"checkpoint {path}: would grow to {size:,} bytes; it was not opened")
