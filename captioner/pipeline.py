"""Captioner: photographs in, captions out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from itertools import islice
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from captioner import checkpoint
from captioner.decoding import DecodingOptions, Hypothesis, decode
from captioner.errors import CaptionerError
from captioner.images import ImageSource, open_image, to_pixels
from captioner.model import CaptionModel
from captioner.vocabulary import Vocabulary, join_words

BATCH_SIZE = 16
"""Photographs that go through the network together, unless told otherwise."""


@dataclass(frozen=True)
class Caption:
    """A caption and how it came about.

    Attributes:
        words: Its words.
        word_log_probabilities: Natural logarithm of the probability of each word, then of the end of the sentence
            (missing where the caption was cut at the longest length).
        attention: Where the decoder looked for each word, float32, shape (words, rows, columns), each map sums to 1;
            None for a model without attention.
        region: The part of the upright photograph that the maps cover: left, top, right and bottom edge as fractions
            of its width and height.
        alternatives: Further captions of the same photograph, the better ones first.
    """

    words: tuple[str, ...]
    word_log_probabilities: tuple[float, ...]
    attention: np.ndarray | None
    region: tuple[float, float, float, float]
    alternatives: tuple[Caption, ...] = ()

    @property
    def text(self) -> str:
        """The caption as a line of text."""
        return join_words(self.words)

    @property
    def log_probability(self) -> float:
        """Natural logarithm of the probability of the whole caption."""
        return sum(self.word_log_probabilities)


class Captioner:
    """A network, its words and its preprocessing: all that turns a photograph into a caption.

    Args:
        model: The network; it is put into evaluation mode.
        vocabulary: Its words.
        card: What is to be known of the model.
        device: Where it runs, such as ``cpu`` or ``cuda``.

    Raises:
        CaptionerError: There is no such device.
    """

    def __init__(
        self, model: CaptionModel, vocabulary: Vocabulary, card: Mapping[str, Any], device: str | torch.device = "cpu"
    ) -> None:
        try:
            self.device = torch.device(device)
            self.model = model.to(self.device).eval()
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise CaptionerError(f"device {str(device)!r} cannot be used: {reason}; try cpu") from error
        self.vocabulary = vocabulary
        self.card = card
        self.transform = model.config.transform
        self.grid_shape = model.encoder.grid_shape(self.transform.size)

    @overload
    def caption(self, images: ImageSource, *, batch_size: int = ..., **options: Any) -> Caption: ...  # noqa: ANN401
    @overload
    def caption(self, images: Sequence[ImageSource], *, batch_size: int = ..., **options: Any) -> list[Caption]: ...  # noqa: ANN401
    def caption(
        self,
        images: ImageSource | Sequence[ImageSource],
        *,
        batch_size: int = BATCH_SIZE,
        **options: Any,
    ) -> Caption | list[Caption]:
        """Captions one photograph or several.

        Args:
            images: A path, the bytes of an image file, a PIL image or a uint8 array; a list or tuple gives a list.
            batch_size: Photographs that go through the network together.
            **options: Fields of `DecodingOptions`, such as ``beam_size`` and ``num_captions``.

        Returns:
            A caption for one photograph; a list, in order, for several.

        Raises:
            CaptionerError: A photograph cannot be read, or an option has no sense.
        """
        several = isinstance(images, (list, tuple))
        sources: Sequence[ImageSource] = images if several else [images]  # type: ignore[assignment, list-item]
        captions = []
        for result in self.stream(sources, _options(options), batch_size):
            if isinstance(result, CaptionerError):
                raise result
            captions.append(result)
        return captions if several else captions[0]

    def stream(
        self, images: Iterable[ImageSource], options: DecodingOptions | None = None, batch_size: int = BATCH_SIZE
    ) -> Iterator[Caption | CaptionerError]:
        """Captions any number of photographs, a batch at a time, as they come.

        Args:
            images: Photographs, read only as they are needed.
            options: How captions are written.
            batch_size: Photographs that go through the network together.

        Yields:
            For each photograph, in order, its caption, or why it could not be read.
        """
        if batch_size < 1:
            raise CaptionerError(f"batch size is {batch_size}; it must be at least 1")
        options = options or DecodingOptions()
        remaining = iter(images)
        while batch := list(islice(remaining, batch_size)):
            loaded = [self._load(source) for source in batch]
            pixels = [image.pixels for image in loaded if isinstance(image, _Loaded)]
            hypotheses = iter(self._decode(torch.stack(pixels), options) if pixels else ())
            for image in loaded:
                yield self._caption(next(hypotheses), image) if isinstance(image, _Loaded) else image

    def save(self, path: str | os.PathLike[str], dtype: torch.dtype = torch.float32) -> None:
        """Writes a checkpoint that `load` reads; see `checkpoint.write`."""
        content = checkpoint.Checkpoint(self.model.config, self.vocabulary.words, self.model.state_dict(), self.card)
        checkpoint.write(path, content, dtype)

    def _load(self, source: ImageSource) -> _Loaded | CaptionerError:
        try:
            image = open_image(source)
        except CaptionerError as error:
            return error
        left, top, right, bottom = self.transform.region(*image.size)
        width, height = image.size
        region = (left / width, top / height, right / width, bottom / height)
        return _Loaded(to_pixels(self.transform.scale(image)), region)

    @torch.inference_mode()
    def _decode(self, pixels: Tensor, options: DecodingOptions) -> list[list[Hypothesis]]:
        images = self.transform.normalise(pixels.to(self.device))
        return decode(self.model.decoder, self.model.encoder(images), options)

    def _caption(self, hypotheses: list[Hypothesis], image: _Loaded) -> Caption:
        captions = [
            Caption(
                tuple(self.vocabulary.decode(hypothesis.words)),
                tuple(hypothesis.log_probabilities),
                None if hypothesis.attention is None else self._maps(hypothesis.attention),
                image.region,
            )
            for hypothesis in hypotheses
        ]
        return replace(captions[0], alternatives=tuple(captions[1:]))

    def _maps(self, attention: Tensor) -> np.ndarray:
        maps: np.ndarray = attention.float().cpu().numpy().reshape(len(attention), *self.grid_shape)
        return maps


@dataclass(frozen=True)
class _Loaded:
    pixels: Tensor
    region: tuple[float, float, float, float]


def load(path: str | os.PathLike[str] | None = None, device: str | torch.device = "cpu") -> Captioner:
    """Opens a captioner; the embedded one needs no file and no internet.

    Args:
        path: A checkpoint made by ``captioner train``; the embedded one by default.
        device: Where it runs, such as ``cpu`` or ``cuda``.

    Raises:
        CaptionerError: There is no such checkpoint, it cannot be read safely, or there is no such device.
    """
    content = checkpoint.read(embedded_checkpoint() if path is None else path)
    model, vocabulary = content.build()
    return Captioner(model, vocabulary, content.card, device)


def embedded_checkpoint() -> os.PathLike[str]:
    """The file of the embedded model."""
    file = resources.files("captioner") / "pretrained" / "captioner.safetensors"
    assert isinstance(file, os.PathLike)
    return file


def _options(values: Mapping[str, Any]) -> DecodingOptions:
    known = DecodingOptions.__dataclass_fields__
    for name in values:
        if name not in known:
            raise CaptionerError(f"there is no decoding option {name!r}; choose from {', '.join(known)}")
    return DecodingOptions(**values)
