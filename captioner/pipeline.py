"""The captioner: generates and scores captions of images."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import islice
from numbers import Integral
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captioner import checkpoint
from captioner.caption import Caption
from captioner.checkpoint.pretrained import DEFAULT, checkpoint_of
from captioner.data.images import ImageSource, open_image
from captioner.data.transforms import Transform, to_pixels
from captioner.decoding import DecodingOptions, Hypothesis, decode, score_captions
from captioner.decoding.options import Word
from captioner.errors import CaptionerError, first_line
from captioner.models.captioner import CaptionModel
from captioner.models.confidence import Evidence, caption_features, suggested
from captioner.models.decoder import Decoder, MemberDecoders
from captioner.models.encoder import GridEncoder
from captioner.models.inference import choose_dtypes, prepare
from captioner.text.vocabulary import PAD, Vocabulary, split_words
from captioner.utils.threads import map_in_threads

FileName = str | os.PathLike[str]

BATCH_SIZE = 128
"""Default batch size of captioning; the encoder divides it further."""


class Captioner:
    """A network with vocabulary and preprocessing, which captions images.

    Args:
        model: The network; set to evaluation mode.
        vocabulary: Its vocabulary.
        card: Its model card.
        device: Its device, such as ``cpu`` or ``cuda``.
        others: Further networks of an ensemble, with the same vocabulary; log-probabilities are averaged.
        precision: ``float32``, ``bfloat16``, or ``auto``: bfloat16 for the decoder on CPUs that are faster with it.
            The networks themselves stay float32; captions are generated with copies made now.

    Raises:
        CaptionerError: The device or precision is unavailable.
    """

    def __init__(
        self,
        model: CaptionModel,
        vocabulary: Vocabulary,
        card: Mapping[str, Any],
        device: str | torch.device = "cpu",
        others: Sequence[CaptionModel] = (),
        precision: str = "float32",
    ) -> None:
        try:
            self.device = torch.device(device)
            if self.device.type == "meta":
                raise RuntimeError("it holds no numbers")
            self.members = tuple(each.to(self.device).eval() for each in (model, *others))
        except (RuntimeError, AssertionError, ImportError) as error:
            reason = first_line(error)
            raise CaptionerError(f"device {str(device)!r} cannot be used: {reason}; try cpu") from error
        self._dtypes = choose_dtypes(precision, self.device)
        self._prepared: list[CaptionModel] = []
        for member in self.members:
            before = zip(self.members, self._prepared, strict=False)
            encoder = next((ready.encoder for one, ready in before if _see_the_same(one, member)), None)
            self._prepared.append(prepare(member, self._dtypes, encoder))
        self.model = model
        self.vocabulary = vocabulary
        self.card = card
        self.transform = model.config.transform
        views = [(m.encoder.grid_shape(m.config.transform.size), m.config.transform.resize) for m in self.members]
        self.grid_shape = views[0][0]
        # Maps of different grids or parts of the image cannot be averaged.
        self._one_view = len(set(views)) == 1

    @property
    def shows_attention(self) -> bool:
        """Whether its captions have attention maps: all members need attention of the same kind."""
        kinds = [each.config.decoder.attention for each in self.members]
        return self._one_view and "none" not in kinds and len({kind == "adaptive" for kind in kinds}) == 1

    @property
    def tells_confidence(self) -> bool:
        """Whether its captions have a confidence, which is fitted to a single network."""
        confidence = self.model.confidence
        return confidence is not None and int(confidence.networks) == len(self.members)

    @overload
    def caption(self, images: ImageSource, *, batch_size: int = ..., **options: Any) -> Caption: ...  # noqa: ANN401
    @overload
    def caption(self, images: Iterable[ImageSource], *, batch_size: int = ..., **options: Any) -> list[Caption]: ...  # noqa: ANN401
    def caption(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        batch_size: int = BATCH_SIZE,
        **options: Any,
    ) -> Caption | list[Caption]:
        """Caption one or several images.

        Args:
            images: A path, the bytes of an image file, a PIL image or a uint8 array, with RGB channels (for OpenCV's
                BGR, pass ``array[..., ::-1]``). A list, a tuple or an iterator, such as that of ``Path.glob``, returns
                a list.
            batch_size: Images per batch.
            **options: Fields of `DecodingOptions`, such as ``beam_size`` and ``num_captions``; words as text.

        Returns:
            A caption for one image; a list, in order, for several.

        Raises:
            CaptionerError: An image is unreadable, or an option is invalid.
        """
        several = isinstance(images, (list, tuple, Set, Iterator)) and not isinstance(images, io.IOBase)
        sources: list[ImageSource] = list(images) if several else [images]  # type: ignore[arg-type, list-item]
        captions = []
        for source, result in zip(sources, self.stream(sources, _options(options), batch_size), strict=True):
            if isinstance(result, CaptionerError):
                raise result
            captions.append(replace(result, source=source))
        return captions if several else captions[0]

    def stream(
        self, images: Iterable[ImageSource], options: DecodingOptions | None = None, batch_size: int = BATCH_SIZE
    ) -> Iterator[Caption | CaptionerError]:
        """Caption any number of images lazily, in batches.

        Threads decode a batch, then the network uses all cores; running both at once is slower.

        Args:
            images: The images, consumed one batch at a time.
            options: The decoding options.
            batch_size: Images per batch.

        Yields:
            For each image, in order, its caption, or the error if it is unreadable.
        """
        for result in self.stream_with_evidence(images, options, batch_size):
            yield result if isinstance(result, CaptionerError) else result[0]

    def stream_with_evidence(
        self, images: Iterable[ImageSource], options: DecodingOptions | None = None, batch_size: int = BATCH_SIZE
    ) -> Iterator[tuple[Caption, Evidence | None] | CaptionerError]:
        """Caption images like `stream`, with the inputs of each caption's confidence.

        Args:
            images: The images, consumed one batch at a time.
            options: The decoding options.
            batch_size: Images per batch.

        Yields:
            For each image, in order, its caption and the evidence, None for an uncalibrated model; or the error if it
            is unreadable.
        """
        if not isinstance(batch_size, Integral) or batch_size < 1:
            raise CaptionerError(f"batch size is {batch_size!r}; it must be a whole number of at least 1")
        options = with_ids(options or DecodingOptions(), self.vocabulary)
        remaining = iter(images)
        while sources := list(islice(remaining, batch_size)):
            batch = map_in_threads(self._load, sources, torch.get_num_threads())
            good = [image for image in batch if isinstance(image, _Loaded)]
            grids = self._grids(good) if good else []
            hypotheses = decode(self._decoders(), grids, options) if good else []
            written = iter(zip(hypotheses, self._evidence(grids, hypotheses), strict=True))
            for image in batch:
                if isinstance(image, _Loaded):
                    found, evidence = next(written)
                    yield self._with_confidence(self._captions(found, image), evidence), evidence
                else:
                    yield image

    @overload
    def score(self, image: ImageSource, captions: str) -> Caption: ...
    @overload
    def score(self, image: ImageSource, captions: list[str] | tuple[str, ...]) -> list[Caption]: ...
    def score(self, image: ImageSource, captions: str | list[str] | tuple[str, ...]) -> Caption | list[Caption]:
        """Score given captions of an image: their log-probabilities and attention maps.

        Args:
            image: A path, the bytes of an image file, a PIL image or a uint8 array with RGB channels.
            captions: A caption; a list or tuple gives a list. Words that the vocabulary lacks become UNKNOWN.

        Returns:
            The tokenized captions, with log-probabilities and perplexity.

        Raises:
            CaptionerError: The image is unreadable.
        """
        texts = list(captions) if isinstance(captions, (list, tuple)) else [captions]
        for text in texts:
            if not isinstance(text, str):
                raise CaptionerError(f"a caption is {text!r}; give text")
        loaded = self._load(image)
        if isinstance(loaded, CaptionerError):
            raise loaded
        if not texts:
            return []
        ids = [torch.tensor(self.vocabulary.encode(text)) for text in texts]
        words = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=PAD).unsqueeze(0)
        [hypotheses] = score_captions(self._decoders(), self._grids([loaded]), words)
        scored = self._captions(hypotheses, loaded)
        return scored[0] if isinstance(captions, str) else scored

    def save(self, path: str | os.PathLike[str], dtype: torch.dtype = torch.float32) -> None:
        """Write a checkpoint for `load`, with all members of an ensemble; see `checkpoint.write`."""
        contents = [
            checkpoint.Checkpoint(each.config, self.vocabulary.words, each.state_dict(), self.card)
            for each in self.members
        ]
        checkpoint.write(path, *contents, dtype=dtype)

    def _load(self, source: ImageSource) -> _Loaded | CaptionerError:
        try:
            image = open_image(source, max(member.config.transform.enough for member in self.members))
        except CaptionerError as error:
            return error
        scaled = {transform: transform.scale(image) for transform in {each.config.transform for each in self.members}}
        left, top, right, bottom = self.transform.region(*image.size)
        width, height = image.size
        region = (left / width, top / height, right / width, bottom / height)
        return _Loaded(scaled, region)

    def _decoders(self) -> list[Decoder | MemberDecoders]:
        return [member.decoder for member in self._prepared]

    @torch.inference_mode()
    def _grids(self, images: Sequence[_Loaded]) -> list[Tensor]:
        """Feature vectors of each member's encoder, shape (images, regions, channels); shared encoders run once."""
        grids: dict[GridEncoder, Tensor] = {}
        for member in self._prepared:
            if member.encoder not in grids:
                transform = member.config.transform
                batch = torch.stack([to_pixels(image.scaled[transform]) for image in images]).to(self.device)
                seen = transform.normalize(batch).to(self._dtypes.encoder)
                grids[member.encoder] = member.encoder(seen).to(self._dtypes.decoder)
        return [grids[member.encoder] for member in self._prepared]

    def _captions(self, hypotheses: Iterable[Hypothesis], image: _Loaded) -> list[Caption]:
        return [
            Caption(
                tuple(self.vocabulary.decode(hypothesis.words)),
                tuple(hypothesis.log_probabilities),
                self._maps(hypothesis.attention),
                image.region,
                looking_away=self._sentinel_weights(hypothesis.attention),
            )
            for hypothesis in hypotheses
        ]

    @torch.no_grad()
    def _evidence(
        self, grids: Sequence[Tensor], hypotheses: Sequence[Sequence[Hypothesis]]
    ) -> Sequence[Evidence | None]:
        """Inputs of the captions' confidences, computed by the first member."""
        confidence = self.model.confidence
        if confidence is None or not hypotheses:
            return [None] * len(hypotheses)
        pictures = grids[0].float().mean(dim=1)
        concepts = suggested(self._prepared[0].decoder, grids[0], confidence.things)
        things: list[int] = confidence.things.tolist()
        features = (
            [caption_features(each.words, each.log_probabilities, things, of_picture) for each in captions]
            for captions, of_picture in zip(hypotheses, concepts, strict=True)
        )
        return [
            Evidence(picture, torch.tensor(each, device=picture.device))
            for picture, each in zip(pictures, features, strict=True)
        ]

    def _with_confidence(self, captions: Sequence[Caption], evidence: Evidence | None) -> Caption:
        """Build the first caption with the others as its alternatives, each with its confidence."""
        confidence = self.model.confidence
        if confidence is not None and evidence is not None and self.tells_confidence:
            sure = confidence(evidence)
            captions = [replace(each, confidence=value) for each, value in zip(captions, sure, strict=True)]
        first, *rest = captions
        return replace(first, alternatives=tuple(rest))

    def _maps(self, attention: Tensor | None) -> np.ndarray | None:
        if attention is None or not self._one_view:
            return None
        cells = attention[:, : math.prod(self.grid_shape)].float().cpu()  # may be followed by the sentinel's weight
        maps: np.ndarray = (cells / cells.sum(dim=1, keepdim=True)).numpy().reshape(len(cells), *self.grid_shape)
        return maps

    def _sentinel_weights(self, attention: Tensor | None) -> tuple[float, ...] | None:
        if attention is None or not self._one_view or attention.shape[1] == math.prod(self.grid_shape):
            return None
        return tuple(attention[:, -1].tolist())


@dataclass(frozen=True)
class _Loaded:
    scaled: Mapping[Transform, Image.Image]  # in the preprocessing of the ensemble's members
    region: tuple[float, float, float, float]


def load(
    path: FileName | Sequence[FileName] | None = None,
    device: str | torch.device = "cpu",
    precision: str = "float32",
) -> Captioner:
    """Open a captioner; the embedded one needs no file and no internet.

    Args:
        path: A checkpoint made by ``captioner train`` or ``captioner export``, or ``default``, the embedded one, which
            is the default. Several, with the same vocabulary, make an ensemble.
        device: Its device, such as ``cpu`` or ``cuda``.
        precision: ``float32``, ``bfloat16``, or ``auto``: bfloat16 for the decoder on CPUs that are faster with it.

    Returns:
        The captioner. It expects RGB arrays: pass ``array[..., ::-1]`` for OpenCV's.

    Raises:
        CaptionerError: The checkpoint is missing or cannot be read safely, the vocabularies of an ensemble differ, or
            the device or precision is unavailable.
    """
    if path is None:
        path = DEFAULT
    files = [path] if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(files, (list, tuple)) or not all(isinstance(file, (str, os.PathLike)) for file in files):
        raise CaptionerError(f"a checkpoint is {path!r}; give the path of a file, or a list of them")
    if not files:
        raise CaptionerError("the list of checkpoints is empty; name one, or leave it out for the embedded one")
    first, *others = contents = [member for file in files for member in checkpoint.read_members(checkpoint_of(file))]
    checkpoint.refuse_other_words(contents)
    model, vocabulary = first.build()
    return Captioner(model, vocabulary, first.card, device, [other.build()[0] for other in others], precision)


def _see_the_same(one: CaptionModel, other: CaptionModel) -> bool:
    """Whether two networks have the same encoder output."""
    return one.config.transform == other.config.transform and one.encoder.sees_as(other.encoder)


def _options(values: Mapping[str, Any]) -> DecodingOptions:
    known = DecodingOptions.__dataclass_fields__
    for name in values:
        if name not in known:
            raise CaptionerError(f"there is no decoding option {name!r}; choose from {', '.join(known)}")
    return DecodingOptions(**values)


def with_ids(options: DecodingOptions, vocabulary: Vocabulary) -> DecodingOptions:
    """Convert words in options to ids.

    Bad endings that the vocabulary lacks are skipped, so that one list fits every model.

    Args:
        options: The options; words are text, in any case, or ids.
        vocabulary: The vocabulary.

    Raises:
        CaptionerError: A word is empty, several words, or not in the vocabulary.
    """

    def ids(name: str, needed: bool = True) -> tuple[int, ...]:
        found = (_id(word, name, vocabulary, needed) for word in getattr(options, name))
        return tuple(id_ for id_ in found if id_ is not None)

    forbidden, required = ids("forbidden_words"), ids("required_words")
    for word in required:
        if word in forbidden:
            raise CaptionerError(f"word {vocabulary.words[word]!r} is both required and forbidden; drop one of the two")
    return replace(
        options,
        forbidden_words=forbidden,
        required_words=required,
        bad_endings=ids("bad_endings", needed=False),
    )


def _id(word: Word, name: str, vocabulary: Vocabulary, needed: bool) -> int | None:
    title = name.replace("_", " ")
    if isinstance(word, int):
        if word >= len(vocabulary):
            raise CaptionerError(f"{title} has the id {word}, but the model's {len(vocabulary)} words end before it")
        return word
    parts = split_words(word)
    if len(parts) != 1:
        raise CaptionerError(f"{title} has {word!r}, which is {len(parts)} words to the model; give single words")
    [known] = parts
    if known in vocabulary:
        return vocabulary.id(known)
    if needed:
        raise CaptionerError(f"{title} has {word!r}, which the model does not know; use one of its words")
    return None
