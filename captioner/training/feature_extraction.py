"""Fill a feature cache with the output of a frozen encoder."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import torch
from torch import nn

from captioner.checkpoint.digest import hash_tensors
from captioner.data.feature_cache import make_header
from captioner.data.transforms import Transform, read_scaled, to_pixels
from captioner.errors import CaptionerError
from captioner.models.encoder import GridEncoder
from captioner.utils.tar_files import find_member
from captioner.utils.threads import map_in_threads


def describe_origin(encoder: GridEncoder, transform: Transform, images: Sequence[Path], views: int) -> str:
    """Describe what features depend on, as JSON: network, weights, preprocessing, images and number of views.

    Args:
        encoder: The frozen encoder.
        transform: The preprocessing.
        images: The image files, in order. Identified by name, size and date, not by content.
        views: 1, or 2 with the mirror image.

    Raises:
        CaptionerError: An image is missing.
    """
    stamps = hashlib.sha256()
    for image in images:
        try:
            part = find_member(image)
            status = os.stat(part.file if part else image)
        except OSError as error:
            raise CaptionerError(f"{image}: cannot be read: {error.strerror}") from error
        size = part.size if part else status.st_size
        stamps.update(f"{image.name}\0{size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
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
    return hash_tensors(module.state_dict())


def encode_images(
    path: Path, origin: str, encoder: GridEncoder, transform: Transform, images: Sequence[Path], views: int, batch: int
) -> Iterator[int]:
    """Compute the features of images and write them. Continues an interrupted run.

    Threads decode a batch, then the encoder uses all cores. Results go to a temporary file next to ``path`` that is
    renamed in the end.

    Args:
        path: The file.
        origin: The result of `describe_origin`.
        encoder: The frozen encoder, in evaluation mode.
        transform: The preprocessing.
        images: The image files, in order.
        views: 1, or 2 with the mirror image.
        batch: Batch size of the encoder.

    Yields:
        The number of finished images, at the start and after each batch.

    Raises:
        CaptionerError: An image cannot be read, the file cannot be written, or another process is writing it.
    """
    shape = (len(images), views, math.prod(encoder.grid_shape(transform.size)), encoder.channels)
    header = make_header(origin, shape)
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
                    features = encoder(transform.normalize(seen))
                file.write(features.to("cpu", torch.float16).numpy().tobytes())
                file.flush()
                yield start + len(several)
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise CaptionerError(f"cannot write {path}: {error.strerror or error}; choose another place") from error


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CaptionerError(f"{path}: another process is making this feature cache; wait until it has ended") from None


def _resume(file: BinaryIO, header: bytes, size: int) -> int:
    """Truncate the file to complete images of the same job; returns their number."""
    file.seek(0)
    if file.read(len(header)) != header:
        file.truncate(0)
        file.write(header)
        return 0
    done = (file.seek(0, os.SEEK_END) - len(header)) // size
    file.truncate(len(header) + done * size)
    return done


def _refuse_full_disk(path: Path, needed: int) -> None:
    """Check at once what would otherwise fail after hours."""
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise CaptionerError(f"feature cache {path}: needs {needed:,} bytes more, {free:,} are free; make room")
