"""Records as tensors: a batch has images × captions per image, so that the encoder runs once per image."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, overload

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from captioner.data.augmentation import Augmentation
from captioner.data.concepts import ConceptWords, as_targets
from captioner.data.feature_cache import FeatureCache
from captioner.data.images import open_image
from captioner.data.records import Record
from captioner.data.sampler import Draw
from captioner.data.transforms import Transform, to_pixels
from captioner.errors import CaptionerError
from captioner.text.vocabulary import PAD, START, Vocabulary

IGNORED = -100
"""In place of a target that is not learned: `torch.nn.functional.cross_entropy` leaves it out of the mean."""


class Example(NamedTuple):
    """One image with its captions.

    Attributes:
        image: Pixels, uint8, (3, size, size); or cached features, float16, (regions, channels).
        captions: Word ids, START to END.
        image_index: Index in the dataset.
        concepts: Probabilities of the concepts that its captions and tags name, shape (concepts,); None without them.
        given: Number of words after START that are the prompt's.
    """

    image: Tensor
    captions: list[list[int]]
    image_index: int
    concepts: Tensor | None = None
    given: int = 0


class Batch(NamedTuple):
    """Images with their captions, sorted by caption length, the longest first.

    Attributes:
        images: Pixels, uint8, (images, 3, size, size); or cached features, float16, (images, regions, channels).
        captions: Word ids, START first, END last, then PAD, shape (images, captions per image, length). Missing
            captions of an image are all PAD.
        indices: Indices in the dataset, shape (images,).
        concepts: Probabilities of concepts, shape (images, concepts); None without them.
        given: Number of words after START that are the prompt's, shape (images,); None without prompts.
    """

    images: Tensor
    captions: Tensor
    indices: Tensor
    concepts: Tensor | None = None
    given: Tensor | None = None

    @property
    def targets(self) -> Tensor:
        """The captions with `IGNORED` in place of their prompts, which are read and not learned."""
        if self.given is None:
            return self.captions
        place = torch.arange(self.captions.shape[2], device=self.captions.device)
        is_given = (place > 0) & (place <= self.given.view(-1, 1, 1)) & (self.captions != PAD)
        return self.captions.masked_fill(is_given, IGNORED)

    @property
    def prompts(self) -> list[tuple[int, ...]]:
        """The word ids of each image's prompt."""
        if self.given is None:
            return [() for _ in self.captions]
        words = self.captions[:, 0].tolist()
        return [tuple(ids[1 : count + 1]) for ids, count in zip(words, self.given.tolist(), strict=True)]


class EncodedCaptions(Sequence[list[list[int]]]):
    """The word ids of each image's captions, START to END, in one array: as lists, those of COCO take half a gigabyte.

    Args:
        records: The images.
        vocabulary: Maps words to ids.

    Attributes:
        given: Number of words after START that are the prompt's, for each image.

    Raises:
        CaptionerError: A caption has no words.
    """

    def __init__(self, records: Sequence[Record], vocabulary: Vocabulary) -> None:
        self._ids = array("H" if len(vocabulary) <= 1 << 16 else "i")
        self._ends, self._images = array("q", [0]), array("q", [0])
        self.given = array("i")
        for record in records:
            prompt = vocabulary.encode(record.prompt)[1:-1]
            self.given.append(len(prompt))
            for text in record.captions:
                ids = vocabulary.encode(text)
                if len(ids) == 2:
                    raise CaptionerError(f"caption {text!r} of {record.image} has no words; remove it or write one")
                self._ids.extend([START, *prompt, *ids[1:]])
                self._ends.append(len(self._ids))
            self._images.append(len(self._ends) - 1)

    def __len__(self) -> int:
        return len(self._images) - 1

    @overload
    def __getitem__(self, image: int) -> list[list[int]]: ...
    @overload
    def __getitem__(self, image: slice) -> list[list[list[int]]]: ...
    def __getitem__(self, image: int | slice) -> list[list[int]] | list[list[list[int]]]:
        if isinstance(image, slice):
            return [self[image_index] for image_index in range(*image.indices(len(self)))]
        image_index = operator.index(image)
        if not -len(self) <= image_index < len(self):
            raise IndexError(f"there are captions of {len(self)} images, and none of image {image_index}")
        image_index %= len(self)
        ends = self._ends[self._images[image_index] : self._images[image_index + 1] + 1]
        return [self._ids[start:end].tolist() for start, end in pairwise(ends)]


class CaptionDataset(Dataset[Example]):
    """Images and captions of one split.

    Args:
        records: The split.
        vocabulary: Maps words to ids.
        transform: Converts an image to pixels.
        max_captions: Maximum number of captions per image; from more, a sample is drawn each epoch.
        augmentation: Augmentation options and operations.
        cache: Features to use instead of pixels; view 1 is the mirror image.
        concepts: The concepts, if the decoder has some.

    Raises:
        CaptionerError: A caption has no words.
    """

    def __init__(
        self,
        records: Sequence[Record],
        vocabulary: Vocabulary,
        transform: Transform,
        max_captions: int,
        augmentation: Augmentation | None = None,
        cache: FeatureCache | None = None,
        concepts: ConceptWords | None = None,
    ) -> None:
        self.concepts = concepts
        self.named = [concepts.of(record) for record in records] if concepts else []
        self.records = records
        self.transform = transform
        self.max_captions = max_captions
        self.augmentation = augmentation or Augmentation()
        self.cache = cache
        self.captions = EncodedCaptions(records, vocabulary)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: Draw) -> Example:
        """Load one image with its captions; deterministic for a draw."""
        generator = torch.Generator().manual_seed(draw.seed)
        captions = self.captions[draw.image_index]
        if len(captions) > self.max_captions:
            chosen = torch.randperm(len(captions), generator=generator)[: self.max_captions]
            captions = [captions[i] for i in chosen.tolist()]
        flip = self.augmentation.draw_flip(generator)
        if self.cache is not None:
            image = self.cache.grid(draw.image_index, int(flip))
        else:
            image = to_pixels(self._photograph(self.records[draw.image_index], flip, generator))
        named = as_targets(self.named[draw.image_index], len(self.concepts)) if self.concepts else None
        return Example(image, captions, draw.image_index, named, self.captions.given[draw.image_index])

    def _photograph(self, record: Record, flip: bool, generator: torch.Generator) -> Image.Image:
        image = self.augmentation.cut(open_image(record.image, self.transform.enough), generator)
        image = self.augmentation.disturb(self.transform.scale(image), generator)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image


def collate(examples: Sequence[Example]) -> Batch:
    """Collate a batch, the longest captions first, so that the decoder's later steps are smaller."""
    sorted_captions = [sorted(example.captions, key=len, reverse=True) for example in examples]
    order = sorted(range(len(examples)), key=lambda i: len(sorted_captions[i][0]), reverse=True)
    length = len(sorted_captions[order[0]][0])
    most = max(len(captions) for captions in sorted_captions)
    ids = torch.full((len(examples), most, length), PAD)
    for row, i in enumerate(order):
        for column, caption in enumerate(sorted_captions[i]):
            ids[row, column, : len(caption)] = torch.tensor(caption)
    images = torch.stack([examples[i].image for i in order])
    named = [examples[i].concepts for i in order]
    concepts = None if named[0] is None else torch.stack(named)  # type: ignore[arg-type]
    given = torch.tensor([examples[i].given for i in order])
    indices = torch.tensor([examples[i].image_index for i in order])
    return Batch(images, ids, indices, concepts, given if given.any() else None)
