"""Features of a frozen encoder, computed once and stored in a file that is read on demand.

The file has the safetensors layout (eight bytes of header length, a JSON header, then the values), so that other tools
can read it too: one float16 tensor ``features`` of shape (images, views, regions, channels). Its metadata identifies
encoder, preprocessing and images, and a file with other metadata is refused.
"""

from __future__ import annotations

import json
import math
import operator
import os
import weakref
from pathlib import Path

import torch
from torch import Tensor

from captioner.errors import CaptionerError

_LENGTH_BYTES = 8


class FeatureCache:
    """Feature grids of many images on disk.

    Args:
        path: The file, made by `encode_images`.
        origin: The expected origin, as returned by `describe_origin`.
        first: Index in the file of the first image.

    Raises:
        CaptionerError: The file is damaged, or has another origin.
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
            raise CaptionerError(
                f"feature cache {path}: is damaged or no feature cache; name another file, or delete it if it is one"
            ) from error
        if found != origin:
            raise CaptionerError(
                f"feature cache {path}: was made from {_difference(found, origin)}; delete it or name another file"
            )
        if path.stat().st_size != _LENGTH_BYTES + length + offsets[1]:
            raise CaptionerError(f"feature cache {path}: was cut; delete it")
        self._origin, self._first = origin, first
        _, self._views, *self._shape = shape
        self._begin = _LENGTH_BYTES + length
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def __reduce__(self) -> tuple[type[FeatureCache], tuple[Path, str, int]]:
        """A worker process that is not forked reopens the file."""
        return FeatureCache, (self.path, self._origin, self._first)

    def grid(self, image: int, view: int = 0) -> Tensor:
        """Read the features of one view of an image, float16, shape (regions, channels).

        Raises:
            CaptionerError: The file was truncated after opening.
        """
        values = torch.empty(self._shape, dtype=torch.float16)
        start = self._begin + values.nbytes * ((self._first + image) * self._views + view)
        # Forked workers share the file position, so it must not be used.
        if os.preadv(self._file, [values.numpy().data], start) < values.nbytes:
            raise CaptionerError(f"feature cache {self.path}: was cut; delete it")
        return values


def make_header(origin: str, shape: tuple[int, ...]) -> bytes:
    """The file's header, up to the values."""
    entry = {"dtype": "F16", "shape": shape, "data_offsets": [0, 2 * math.prod(shape)]}
    header = json.dumps({"__metadata__": {"origin": origin}, "features": entry}).encode()
    header += b" " * (-len(header) % _LENGTH_BYTES)  # padded with spaces, as safetensors does for alignment
    return len(header).to_bytes(_LENGTH_BYTES, "little") + header


def _difference(found: str, wanted: str) -> str:
    """Describe the first difference between two origins."""
    try:
        old, new = json.loads(found), json.loads(wanted)
        name = next(name for name in new if old.get(name) != new[name])
        return f"other {name} ({str(old.get(name))[:80]} instead of {new[name][:80]})"
    except (ValueError, AttributeError, StopIteration):
        return "something else"
