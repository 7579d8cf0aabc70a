"""Features of a frozen encoder, computed once and kept in one memory-mapped file.

The file has the safetensors layout (eight bytes of header length, a JSON header, then the values), so that other tools
can read it too: one float16 tensor ``features`` of shape (images, views, cells, channels). Its metadata tells what it
was made from, and a file that was made from anything else is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from captioner.atomic import replacing
from captioner.encoder import GridEncoder
from captioner.errors import CaptionerError
from captioner.images import Transform

_LENGTH_BYTES = 8


class FeatureCache:
    """The grids of many images, on disk.

    Args:
        path: The file, made by `build_cache`.
        origin: What `describe_origin` says of the features that are wanted.
        first: The image in the file that is number 0 here.

    Raises:
        CaptionerError: The file is damaged, or was made from something else.
    """

    def __init__(self, path: Path, origin: str, first: int = 0) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
                header = json.loads(file.read(min(length, path.stat().st_size)))
            found, entry = header["__metadata__"]["origin"], header["features"]
            shape, offsets = tuple(map(operator.index, entry["shape"])), entry["data_offsets"]
            if len(shape) != 4 or min(shape) < 0 or offsets != [0, 2 * math.prod(shape)]:
                raise ValueError("shape and size differ")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise CaptionerError(f"feature cache {path}: is damaged or no cache; delete it") from error
        if found != origin:
            raise CaptionerError(
                f"feature cache {path}: was made from {_difference(found, origin)}; delete it or name another file"
            )
        if path.stat().st_size != _LENGTH_BYTES + length + offsets[1]:
            raise CaptionerError(f"feature cache {path}: was cut; delete it")
        self._values = np.memmap(path, np.float16, "r", _LENGTH_BYTES + length, shape)[first:]

    def grid(self, image: int, view: int = 0) -> Tensor:
        """The features of one image in one view, float16, shape (cells, channels)."""
        return torch.from_numpy(np.array(self._values[image, view]))


def describe_origin(encoder: GridEncoder, transform: Transform, images: Sequence[Path], views: int) -> str:
    """What features depend on, as JSON text: network, weights, preprocessing, images and the number of views.

    Args:
        encoder: The frozen encoder.
        transform: How images reach it.
        images: The image files, in order. Their names, sizes and dates are taken, not their content.
        views: 1, or 2 with the mirror image.

    Raises:
        CaptionerError: An image is missing.
    """
    stamps = hashlib.sha256()
    for image in images:
        try:
            status = image.stat()
        except OSError as error:
            raise CaptionerError(f"{image}: cannot be read: {error.strerror}") from error
        stamps.update(f"{image.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    origin = {
        "encoder": encoder.name,
        "weights": hash_weights(encoder),
        "transform": repr(transform),
        "images": f"{len(images)} files {stamps.hexdigest()}",
        "views": str(views),
    }
    return json.dumps(origin)


def hash_weights(module: nn.Module) -> str:
    """SHA-256 of a module's parameters and buffers, names included."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def build_cache(
    path: Path, origin: str, encoder: GridEncoder, batches: Iterable[Tensor], shape: tuple[int, int, int, int]
) -> Iterator[int]:
    """Computes features and writes them, whole or not at all.

    Args:
        path: The file.
        origin: What `describe_origin` says.
        encoder: The frozen encoder, in evaluation mode.
        batches: Normalised images, all views of an image one after the other, (batch, 3, size, size) each.
        shape: Images, views, cells and channels.

    Yields:
        The number of images seen after each batch.

    Raises:
        CaptionerError: The file cannot be written.
    """
    size = 2 * int(np.prod(shape))
    entry = {"dtype": "F16", "shape": shape, "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": {"origin": origin}, "features": entry}).encode()
    header += b" " * (-len(header) % _LENGTH_BYTES)  # safetensors pads with blanks, so that values are aligned
    seen = 0
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(len(header).to_bytes(_LENGTH_BYTES, "little") + header)
        os.posix_fallocate(file.fileno(), 0, _LENGTH_BYTES + len(header) + size)  # a full disk shows now, not in hours
        with torch.inference_mode():
            for images in batches:
                features = encoder(images)
                file.write(features.to("cpu", torch.float16).numpy().tobytes())
                seen += len(images)
                yield seen


def _difference(found: str, wanted: str) -> str:
    """The first thing in which two origins differ."""
    try:
        old, new = json.loads(found), json.loads(wanted)
        name = next(name for name in new if old.get(name) != new[name])
        return f"other {name} ({str(old.get(name))[:80]} instead of {new[name][:80]})"
    except (ValueError, AttributeError, StopIteration):
        return "something else"
