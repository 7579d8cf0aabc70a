"""Features of a frozen encoder, computed once and kept in one file, of which only what is asked for is read.

The file has the safetensors layout (eight bytes of header length, a JSON header, then the values), so that other tools
can read it too: one float16 tensor ``features`` of shape (images, views, cells, channels). Its metadata tells what it
was made from, and a file that was made from anything else is refused.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import operator
import os
import shutil
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import torch
from PIL import Image
from torch import Tensor, nn

from captioner.encoder import GridEncoder
from captioner.errors import CaptionerError
from captioner.images import open_image
from captioner.threads import map_in_threads
from captioner.transform import Transform, to_pixels

_LENGTH_BYTES = 8


class FeatureCache:
    """The grids of many images, on disk.

    Args:
        path: The file, made by `encode_images`.
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
        self._origin, self._first = origin, first
        _, self._views, *self._shape = shape
        self._begin = _LENGTH_BYTES + length
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def __reduce__(self) -> tuple[type[FeatureCache], tuple[Path, str, int]]:
        """A worker process that is not forked opens the file anew."""
        return FeatureCache, (self.path, self._origin, self._first)

    def grid(self, image: int, view: int = 0) -> Tensor:
        """The features of one image in one view, float16, shape (cells, channels).

        Raises:
            CaptionerError: The file has become shorter since it was opened.
        """
        values = torch.empty(self._shape, dtype=torch.float16)
        start = self._begin + values.nbytes * ((self._first + image) * self._views + view)
        # Workers that were forked share the file's position, so that it must not matter.
        if os.preadv(self._file, [values.numpy().data], start) < values.nbytes:
            raise CaptionerError(f"feature cache {self.path}: was cut; delete it")
        return values


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


def encode_images(
    path: Path, origin: str, encoder: GridEncoder, transform: Transform, images: Sequence[Path], views: int, batch: int
) -> Iterator[int]:
    """Computes the features of images and writes them. An interrupted run is gone on with by the next.

    Threads decode a batch, then the encoder has all cores. What is done lies in a file beside ``path`` that takes its
    name in the end.

    Args:
        path: The file.
        origin: What `describe_origin` says of the rest.
        encoder: The frozen encoder, in evaluation mode.
        transform: How images reach it.
        images: The image files, in order.
        views: 1, or 2 with the mirror image.
        batch: Images that go through the encoder together.

    Yields:
        The number of images done, first those of an interrupted run, then after each batch.

    Raises:
        CaptionerError: An image cannot be read, the file cannot be written, or another process is writing it.
    """
    shape = (len(images), views, math.prod(encoder.grid_shape(transform.size)), encoder.channels)
    header = _header(origin, shape)
    size = 2 * math.prod(shape[1:])
    part = path.with_name(f".{path.name}.part")
    device = next(encoder.parameters()).device
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("a+b") as file:
            _lock(file, path)
            done = _resume(file, header, size)
            _refuse_full_disk(path, size * (len(images) - done))
            yield done
            for start in range(done, len(images), batch):
                several = images[start : start + batch]
                read = map_in_threads(partial(read_scaled, transform), several, torch.get_num_threads())
                pixels = torch.stack([to_pixels(image) for image in read])
                seen = torch.stack([pixels, pixels.flip(-1)][:views], dim=1).flatten(0, 1).to(device)
                with torch.inference_mode():
                    features = encoder(transform.normalise(seen))
                file.write(features.to("cpu", torch.float16).numpy().tobytes())
                file.flush()
                yield start + len(several)
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise CaptionerError(f"cannot write {path}: {error.strerror or error}; choose another place") from error


def read_scaled(transform: Transform, path: Path) -> Image.Image:
    """A photograph as the encoder sees it, decoded no larger than that takes.

    Raises:
        CaptionerError: It cannot be read.
    """
    return transform.scale(open_image(path, transform.enough))


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CaptionerError(f"{path}: another process is making this feature cache; wait until it has ended") from None


def _resume(file: BinaryIO, header: bytes, size: int) -> int:
    """Cuts the file to whole images of this very job, and says how many there are."""
    file.seek(0)
    if file.read(len(header)) != header:
        file.truncate(0)
        file.write(header)
        return 0
    done = (file.seek(0, os.SEEK_END) - len(header)) // size
    file.truncate(len(header) + done * size)
    return done


def _refuse_full_disk(path: Path, needed: int) -> None:
    """Says at once what would show in hours."""
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise CaptionerError(f"feature cache {path}: needs {needed:,} bytes more, {free:,} are free; make room")


def _header(origin: str, shape: tuple[int, ...]) -> bytes:
    """The beginning of the file, up to the values."""
    entry = {"dtype": "F16", "shape": shape, "data_offsets": [0, 2 * math.prod(shape)]}
    header = json.dumps({"__metadata__": {"origin": origin}, "features": entry}).encode()
    header += b" " * (-len(header) % _LENGTH_BYTES)  # safetensors pads with blanks, so that values are aligned
    return len(header).to_bytes(_LENGTH_BYTES, "little") + header


def _difference(found: str, wanted: str) -> str:
    """The first thing in which two origins differ."""
    try:
        old, new = json.loads(found), json.loads(wanted)
        name = next(name for name in new if old.get(name) != new[name])
        return f"other {name} ({str(old.get(name))[:80]} instead of {new[name][:80]})"
    except (ValueError, AttributeError, StopIteration):
        return "something else"
