"""Captions for batches of a Ray Data pipeline."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from captioner.caption import Caption, describe
from captioner.checkpoint.pretrained import FileName
from captioner.data.images import ImageSource, NamedBytes, limit_pixels
from captioner.decoding.options import DecodingOptions
from captioner.errors import CaptionerError
from captioner.ray.addresses import absolute, is_remote, read_bytes
from captioner.runtime.loading import load
from captioner.utils.runtime import keep_freed_memory
from captioner.utils.threads import map_in_threads

_READERS = 16
"""Threads that fetch pictures from elsewhere, where most time is spent waiting."""

Source = ImageSource | CaptionerError
"""A picture, or why there is none."""


class CaptionBatch:
    """Captions the pictures of a batch; the model is loaded once, when an actor makes its instance.

    >>> import ray
    >>> from captioner.ray import CaptionBatch
    >>> pictures = ray.data.read_parquet("s3://bucket/pictures")
    >>> captioned = pictures.map_batches(
    ...     CaptionBatch, fn_constructor_kwargs={"column": "jpg", "beam_size": 3}, batch_size=128,
    ...     num_cpus=1, compute=ray.data.ActorPoolStrategy(size=8),
    ... )
    >>> captioned.drop_columns(["jpg"]).write_parquet("s3://bucket/captions")

    Args:
        model: As `captioner.load` takes it; a file has to be there on every machine.
        column: The column of the pictures: bytes of image files, paths or addresses, uint8 arrays as
            ``ray.data.read_images`` makes them, or Hugging Face's pairs of ``bytes`` and ``path``.
        device: Where the model runs; by default the GPU that Ray gave to the actor, else the CPU.
        precision: As in `captioner.load`.
        backend: As in `captioner.load`.
        language: As in `captioner.load`.
        min_confidence: A caption that is less sure is null; from 0 to 1.
        max_pixels: Refuse pictures with more pixels; None keeps Pillow's limit.
        **options: Fields of `DecodingOptions`, such as ``beam_size`` and ``num_captions``.

    Raises:
        CaptionerError: The model cannot be loaded, or an option is invalid.
    """

    def __init__(
        self,
        model: FileName | Sequence[FileName] | None = None,
        *,
        column: str = "image",
        device: str | None = None,
        precision: str = "auto",
        backend: str = "auto",
        language: str | None = None,
        min_confidence: float = 0.0,
        max_pixels: int | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        unknown = [name for name in options if name not in DecodingOptions.__dataclass_fields__]
        if unknown:
            raise CaptionerError(f"there is no option {unknown[0]!r}; see CaptionBatch and DecodingOptions")
        self.column = column
        self.options = DecodingOptions(**options)
        self._min_confidence = min_confidence
        if max_pixels is not None:
            limit_pixels(max_pixels)
        self._model = load(model, device or _device_of_actor(), precision, backend, language)
        keep_freed_memory()  # after loading, whose blocks are needed only once
        if min_confidence and not self._model.tells_confidence:
            raise CaptionerError("a minimum confidence needs a calibrated model; make one with captioner calibrate")

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Add the captions to a batch.

        Args:
            batch: Columns by name, as ``batch_format="numpy"``, Ray's default, has them.

        Returns:
            The batch with the columns ``caption`` and ``error``, empty where there is none, ``log_probability`` and
            ``confidence``, NaN where there is none, and ``captions``, all texts, where several were asked for.

        Raises:
            CaptionerError: The batch lacks the column.
        """
        if self.column not in batch:
            raise CaptionerError(
                f"there is no column {self.column!r} among {', '.join(batch)}; name that of the pictures"
            )
        found = self.caption([source_of(value) for value in batch[self.column]])
        return {**batch, **_columns([self.describe("", each) for each in found], self.options.num_captions > 1)}

    def caption(self, sources: Sequence[Source]) -> list[Caption | CaptionerError]:
        """Caption pictures.

        Args:
            sources: Pictures; an address is fetched. An error is passed on.

        Returns:
            The caption of each, in order, or why it has none.
        """
        loaded = map_in_threads(_fetched, sources, _READERS)
        results = self._model.stream(
            [source for source in loaded if not isinstance(source, CaptionerError)],
            self.options,
            max(1, len(loaded)),
        )
        return [source if isinstance(source, CaptionerError) else next(results) for source in loaded]

    def describe(self, name: str, caption: Caption | CaptionerError) -> dict[str, Any]:
        """Build the JSON object of a picture, as ``captioner caption --json`` prints it."""
        return describe(name, caption, self.options.num_captions, self._min_confidence)


def _device_of_actor() -> str:
    """The GPU that Ray gave to this process, else the CPU."""
    # Outside of an actor, and so without Ray, there is none; importing it would take seconds.
    if (ray := sys.modules.get("ray")) is None or not ray.is_initialized():
        return "cpu"
    return "cuda" if ray.get_gpu_ids() else "cpu"


def source_of(value: Any) -> Source:  # noqa: ANN401 (a cell of a table)
    """The picture in a cell of a table."""
    if isinstance(value, Mapping):
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if value is None:
        return CaptionerError("the cell of the picture is empty; give bytes or a path")
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    return value  # type: ignore[no-any-return] # anything else is told by `open_image`


def _fetched(source: Source) -> Source:
    """Read a picture that is not a file of this machine."""
    if not isinstance(source, (str, os.PathLike)):
        return source
    address = os.fspath(source)
    if not is_remote(address):
        return absolute(address)
    try:
        content = NamedBytes(read_bytes(address))
    except CaptionerError as error:
        return error
    content.name = address
    return content


def _columns(entries: Sequence[Mapping[str, Any]], several: bool) -> dict[str, np.ndarray]:
    """What `describe` tells of each picture; without nulls, so that the columns of all blocks have the same types."""
    columns: dict[str, np.ndarray] = {}
    for name in ("caption", "error"):
        columns[name] = _objects([entry.get(name) or "" for entry in entries])
    for name in ("log_probability", "confidence"):
        values = [entry.get(name) for entry in entries]
        columns[name] = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    if several:
        found = [entry.get("captions", ()) for entry in entries]
        columns["captions"] = _objects([[each["caption"] or "" for each in captions] for captions in found])
    return columns


def _objects(values: Sequence[object]) -> np.ndarray:
    """An array of Python objects; NumPy would make a matrix of lists of one length."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
