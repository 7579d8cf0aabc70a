"""Ragged batches: sentences of different numbers and lengths, and their images."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class Layout(NamedTuple):
    """Assignment of sentences to images, which pads them to a block with equally many rows for each image.

    Attributes:
        images: Number of images.
        indices: Row of each sentence in the block of all images, shape (sentences,); None if the sentences are a full
            block already.
        sentences: The sentence in each row of the block, shape (images · rows,); the number of sentences in a gap.
    """

    images: int
    indices: Tensor | None = None
    sentences: Tensor | None = None

    @classmethod
    def of(cls, image: Tensor, row: Tensor, images: int | None = None) -> Layout:
        """Build the smallest layout from the image and the row of each sentence.

        Args:
            image: Image of each sentence, shape (sentences,).
            row: Its row among those of the image, shape (sentences,).
            images: Number of images; by default up to the last that has a sentence.
        """
        images, rows = int(image.max()) + 1 if images is None else images, int(row.max()) + 1
        indices = image * rows + row
        if len(indices) == images * rows and bool((indices[1:] > indices[:-1]).all()):
            return cls(images)  # a full block in order
        sentences = torch.full((images * rows,), len(indices), device=indices.device)
        sentences[indices] = torch.arange(len(indices), device=indices.device)
        return cls(images, indices, sentences)

    def image(self, sentences: int, device: torch.device) -> Tensor:
        """The index of the image that each of so many sentences describes, shape (sentences,)."""
        if self.indices is None:
            return torch.arange(sentences, device=device) // (sentences // self.images)
        assert self.sentences is not None
        return self.indices // (len(self.sentences) // self.images)

    def to_block(self, x: Tensor) -> Tensor:
        """Pad (sentences, size) to (images, rows, size); gaps hold the values of the first sentence."""
        if self.indices is None:
            return x.reshape(self.images, -1, x.shape[-1])
        block: Tensor = _ToBlock.apply(x, self.indices, self.sentences)
        return block.view(self.images, -1, x.shape[-1])

    def to_sentences(self, block: Tensor) -> Tensor:
        """Unpad (images, rows, size) to (sentences, size)."""
        flat = block.flatten(0, 1)
        if self.indices is None:
            return flat
        x: Tensor = _ToSentences.apply(flat, self.indices, self.sentences)
        return x


class _ToBlock(Function):
    """Its gradient is a selection, not the sum that torch would compute for indices that may repeat."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, indices: Tensor, sentences: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(indices)
        return torch.cat([x, x[:1]]).index_select(0, sentences)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        [indices] = ctx.saved_tensors
        return gradient.index_select(0, indices), None, None


class _ToSentences(Function):
    """The inverse; gaps have no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, indices: Tensor, sentences: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(sentences)
        return x.index_select(0, indices)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        [sentences] = ctx.saved_tensors
        return torch.cat([gradient, torch.zeros_like(gradient[:1])]).index_select(0, sentences), None, None


ROWS = 16
"""A step takes a multiple of this many sentences, as far as there are, since oneDNN prepares a product anew for each
number of rows that is not in its cache."""


class Packing:
    """Known captions packed so that steps have hardly any padding, like torch's `PackedSequence`.

    Sentences are sorted by length, the longest first, so that those that go on come first. Tokens are in the order of
    the steps.

    Args:
        real: Mask of the tokens that are not padding, shape (images, captions per image, steps). Padding comes last.

    Attributes:
        order: Indices of the sentences in the new order, empty ones included, shape (sentences,).
        counts: Number of sentences of each step.
        sentence: Index of the sentence of each token, shape (tokens,).
        step: Position of each token in its sentence, shape (tokens,).
        layouts: Layout of the sentences of each step. If images and captions come sorted by length, it has few gaps.
        tokens: Layout of the real tokens, sentence after sentence.
    """

    def __init__(self, real: Tensor) -> None:
        images, captions, steps = real.shape
        self._real = real.flatten(0, 1)
        self.order = self._real.sum(1).argsort(descending=True, stable=True)
        self.counts = [min(_round_up(count), len(self.order)) for count in self._real.sum(0).tolist()]
        image, row = self.order // captions, self.order % captions
        layouts = {count: Layout.of(image[:count], row[:count]) for count in set(self.counts)}
        self.layouts = [layouts[count] for count in self.counts]
        self.sentence = torch.cat([self.order[:count] for count in self.counts])
        self.step = torch.arange(steps).repeat_interleave(torch.tensor(self.counts)).to(real.device)
        tokens = torch.arange(len(self.sentence), device=real.device)
        indices = tokens.new_empty(self._real.shape).index_put((self.sentence, self.step), tokens)
        self._tokens = indices[self._real]
        counts = real.flatten(1).sum(1)
        of = torch.arange(images, device=real.device).repeat_interleave(counts)
        self.tokens = Layout.of(of, torch.arange(len(of), device=real.device) - (counts.cumsum(0) - counts)[of])

    def by_sentence(self, values: Tensor) -> Tensor:
        """Reorder values from step after step to the real tokens, sentence after sentence, in the original order."""
        return values.index_select(0, self._tokens)

    def padded(self, values: Tensor) -> Tensor:
        """Pad values of the real tokens, sentence after sentence, to (sentences, steps, …), with 0 as padding."""
        return values.new_zeros(*self._real.shape, *values.shape[1:]).index_put((self._real,), values)


def _round_up(count: int) -> int:
    return -(-count // ROWS) * ROWS
