"""What every captioner does, whatever computes its network: photographs in, captions out."""

from __future__ import annotations

import io
import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import accumulate, islice, pairwise
from numbers import Integral
from typing import Any, Protocol, overload

import numpy as np
from PIL import Image

from captioner.caption import Caption
from captioner.data.images import ImageSource, open_image
from captioner.data.transforms import Transform
from captioner.decoding.options import DecodingOptions, Word
from captioner.errors import CaptionerError
from captioner.text.vocabulary import Vocabulary, split_words
from captioner.utils.caching import memoized
from captioner.utils.threads import map_in_threads
from captioner.whole_words import WholeWords

BATCH_SIZE = 128
"""Default batch size of captioning; the encoder divides it further."""


class TokenHypothesis(Protocol):
    """A caption as token ids, as decoding gives it."""

    @property
    def words(self) -> list[int]:
        """Ids without START and END."""

    @property
    def log_probabilities(self) -> list[float]:
        """Of each word, then of END unless the caption was cut."""

    @property
    def given(self) -> int:
        """Number of words at the beginning that are the prompt's."""


@dataclass(frozen=True)
class LoadedImage:
    """A photograph that has been read.

    Attributes:
        scaled: As each of the preprocessings scales it.
        region: The part of it that maps cover, as `Caption.region` has it.
    """

    scaled: Mapping[Transform, Image.Image]
    region: tuple[float, float, float, float]


@dataclass(frozen=True)
class Decoded:
    """The captions of one image, the best first.

    Attributes:
        hypotheses: The captions.
        confidences: The confidence in each, in [0, 1]; None for a model that was not calibrated.
    """

    hypotheses: Sequence[TokenHypothesis]
    confidences: Sequence[float] | None = None


class BaseCaptioner(ABC):
    """A network, its words and its preprocessing; what computes the network is left to subclasses.

    Args:
        vocabulary: Its words.
        card: What is to be known of the model.
        transforms: The preprocessing of each of its networks, without repetition.
        grid_shape: Rows and columns of the attention.
        threads: Number of threads that decode image files.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        card: Mapping[str, Any],
        transforms: Sequence[Transform],
        grid_shape: tuple[int, int],
        threads: int,
    ) -> None:
        self.vocabulary = vocabulary
        self.card = card
        self.transform = transforms[0]
        self.grid_shape = grid_shape
        self._transforms = tuple(transforms)
        self._threads = threads

    @property
    @abstractmethod
    def shows_attention(self) -> bool:
        """Whether its captions tell where the decoder looked."""

    @property
    @abstractmethod
    def tells_confidence(self) -> bool:
        """Whether its captions have a confidence."""

    @abstractmethod
    def _decode(
        self, images: Sequence[LoadedImage], options: DecodingOptions, rules: WholeWords | None
    ) -> Sequence[Decoded]:
        """Generate the captions of each image; options and rules are those that `resolve` gives."""

    @abstractmethod
    def _score(self, image: LoadedImage, captions: Sequence[Sequence[int]]) -> Sequence[TokenHypothesis]:
        """Score given captions of an image: ids, START first, END last."""

    @abstractmethod
    def _attention(self, hypothesis: TokenHypothesis) -> np.ndarray | None:
        """Attention of each word, shape (words, cells), the weight of a sentinel last; None for a model without."""

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
        for result in self._stream(images, options, batch_size):
            yield result if isinstance(result, CaptionerError) else result[0]

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
        hypotheses = self._score(loaded, [self.vocabulary.encode(text) for text in texts])
        scored = [self._caption(hypothesis, loaded) for hypothesis in hypotheses]
        return scored[0] if isinstance(captions, str) else scored

    def _stream(
        self, images: Iterable[ImageSource], options: DecodingOptions | None, batch_size: int
    ) -> Iterator[tuple[Caption, Decoded] | CaptionerError]:
        """As `stream`, each caption with what it was made from."""
        if not isinstance(batch_size, Integral) or batch_size < 1:
            raise CaptionerError(f"batch size is {batch_size!r}; it must be a whole number of at least 1")
        options, rules = resolve(options or DecodingOptions(), self.vocabulary)
        remaining = iter(images)
        while sources := list(islice(remaining, batch_size)):
            batch = map_in_threads(self._load, sources, self._threads)
            good = [image for image in batch if isinstance(image, LoadedImage)]
            results = iter(self._decode(good, options, rules) if good else ())
            for image in batch:
                if isinstance(image, LoadedImage):
                    decoded = next(results)
                    yield self._caption_with_alternatives(decoded, image), decoded
                else:
                    yield image

    def _load(self, source: ImageSource) -> LoadedImage | CaptionerError:
        try:
            image = open_image(source, max(transform.enough for transform in self._transforms))
        except CaptionerError as error:
            return error
        scaled = {transform: transform.scale(image) for transform in self._transforms}
        left, top, right, bottom = self.transform.region(*image.size)
        width, height = image.size
        return LoadedImage(scaled, (left / width, top / height, right / width, bottom / height))

    def _caption_with_alternatives(self, decoded: Decoded, image: LoadedImage) -> Caption:
        captions = [self._caption(hypothesis, image) for hypothesis in decoded.hypotheses]
        if decoded.confidences is not None:
            pairs = zip(captions, decoded.confidences, strict=True)
            captions = [replace(caption, confidence=confidence) for caption, confidence in pairs]
        first, *rest = captions
        return replace(first, alternatives=tuple(rest))

    def _caption(self, hypothesis: TokenHypothesis, image: LoadedImage) -> Caption:
        attention = self._attention(hypothesis) if self.shows_attention else None
        words, counts = self.vocabulary.whole_words(hypothesis.words)
        log_probabilities, given = hypothesis.log_probabilities, hypothesis.given
        if len(counts) < len(hypothesis.words):
            ends = [0, *accumulate(counts)]
            spans = [slice(*pair) for pair in pairwise(ends)]
            log_probabilities = [*(sum(log_probabilities[span]) for span in spans), *log_probabilities[ends[-1] :]]
            attention = None if attention is None else np.stack([attention[span].mean(0) for span in spans])
            given = bisect_right(ends, given) - 1
        maps = looking_away = None
        if attention is not None:
            count = math.prod(self.grid_shape)
            cells = attention[:, :count]
            maps = (cells / cells.sum(1, keepdims=True)).reshape(-1, *self.grid_shape)
            looking_away = tuple(attention[:, -1].tolist()) if attention.shape[1] > count else None
        return Caption(
            tuple(words),
            tuple(log_probabilities),
            maps,
            image.region,
            looking_away=looking_away,
            given=given,
            joined=None if self.vocabulary.tokenizer is None else self.vocabulary.text(hypothesis.words),
        )


def _options(values: Mapping[str, Any]) -> DecodingOptions:
    known = DecodingOptions.__dataclass_fields__
    for name in values:
        if name not in known:
            raise CaptionerError(f"there is no decoding option {name!r}; choose from {', '.join(known)}")
    return DecodingOptions(**values)


def with_ids(options: DecodingOptions, vocabulary: Vocabulary) -> DecodingOptions:
    """Convert words in options to ids.

    Bad endings that the vocabulary lacks are skipped, so that one list fits every model. Of a vocabulary with a
    tokenizer, whose words can have several tokens, the words are checked, and stay text.

    Args:
        options: The options; words are text, in any case, or ids.
        vocabulary: The vocabulary.

    Raises:
        CaptionerError: A word is empty, several words, or not in the vocabulary; or one of the prompt is forbidden.
    """
    if vocabulary.tokenizer is not None:
        _whole_words(options, vocabulary)
        return options

    def ids(name: str, needed: bool = True) -> tuple[int, ...]:
        found = (_id(word, name, vocabulary, needed) for word in getattr(options, name))
        return tuple(id_ for id_ in found if id_ is not None)

    forbidden, required = ids("forbidden_words"), ids("required_words")
    for word in required:
        if word in forbidden:
            raise CaptionerError(f"word {vocabulary.words[word]!r} is both required and forbidden; drop one of the two")
    prompt = _prompt_ids(options.prompt, vocabulary)
    for word in prompt:
        if word in forbidden:
            raise CaptionerError(f"the prompt has {vocabulary.words[word]!r}, which is forbidden; drop one of the two")
    return replace(
        options,
        prompt=prompt,
        forbidden_words=forbidden,
        required_words=required,
        bad_endings=ids("bad_endings", needed=False),
    )


def _prompt_ids(prompt: str | tuple[int, ...], vocabulary: Vocabulary) -> tuple[int, ...]:
    if isinstance(prompt, str):
        return vocabulary.known_ids(prompt, "words") if prompt.strip() else ()
    for word in prompt:
        _id(word, "prompt", vocabulary, needed=True)
    return prompt


def resolve(options: DecodingOptions, vocabulary: Vocabulary) -> tuple[DecodingOptions, WholeWords | None]:
    """Convert options to those of decoding, in tokens, and to rules by whole words for a vocabulary with a tokenizer.

    Args:
        options: The options; words are text, in any case, or ids.
        vocabulary: The vocabulary.

    Raises:
        CaptionerError: A word is empty, several words, or cannot be written.
    """
    if vocabulary.tokenizer is None:
        return with_ids(options, vocabulary), None
    rules = _whole_words(options, vocabulary)
    return rules.token_options, rules


@memoized(maxsize=4)
def _whole_words(options: DecodingOptions, vocabulary: Vocabulary) -> WholeWords:
    return WholeWords(options, vocabulary)


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
