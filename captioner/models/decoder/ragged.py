"""Ragged batches: how sentences of different number and length stand beside their images."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class Layout(NamedTuple):
    """Brings sentences into blocks, as many rows for each image, so that one product serves all images, and back.

    Attributes:
        images: How many images.
        indices: Where each sentence stands in a block of all images, row after row, shape (sentences,); None where the
            sentences stand side by side already, equally many for each image.
        sentences: The sentence at each place of the block, shape (images · rows,); their number where there is none.
    """

    images: int
    indices: Tensor | None = None
    sentences: Tensor | None = None

    @classmethod
    def of(cls, image: Tensor, row: Tensor, images: int | None = None) -> Layout:
        """The smallest block for sentences of which the image and the row in its part of the block are given.

        Args:
            image: Shape (sentences,).
            row: Shape (sentences,).
            images: How many there are; by default all up to the last that has a sentence.
        """
        images, rows = int(image.max()) + 1 if images is None else images, int(row.max()) + 1
        indices = image * rows + row
        if len(indices) == images * rows and bool((indices[1:] > indices[:-1]).all()):
            return cls(images)  # a full block in order, for which nothing has to move
        sentences = torch.full((images * rows,), len(indices), device=indices.device)
        sentences[indices] = torch.arange(len(indices), device=indices.device)
        return cls(images, indices, sentences)

    def image(self, sentences: int, device: torch.device) -> Tensor:
        """The index of the image that each of so many sentences describes, shape (sentences,)."""
        if self.indices is None:
            return torch.arange(self.images, device=device).repeat_interleave(sentences // self.images)
        assert self.sentences is not None
        return self.indices // (len(self.sentences) // self.images)

    def to_block(self, x: Tensor) -> Tensor:
        """From (sentences, size) to (images, rows, size); the gaps hold the first sentence's numbers."""
        if self.indices is None:
            return x.reshape(self.images, -1, x.shape[-1])
        block: Tensor = _ToBlock.apply(x, self.indices, self.sentences)
        return block.view(self.images, -1, x.shape[-1])

    def to_sentences(self, block: Tensor) -> Tensor:
        """From (images, rows, size) to (sentences, size)."""
        flat = block.flatten(0, 1)
        if self.indices is None:
            return flat
        x: Tensor = _ToSentences.apply(flat, self.indices, self.sentences)
        return x


class _ToBlock(Function):
    """Its gradient takes the way back: no sum is needed, as torch would for indices that may come twice."""

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
    """Nothing comes back to the gaps."""

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
"""Sentences are read in multiples of so many, as far as there are, since oneDNN prepares its products anew for each
number of rows that it has not met lately."""


class Packing:
    """Known sentences arranged so that each step reads hardly any padding.

    Sentences stand in the order of their lengths, the longest first: those that go on are the first ones. Their words
    stand step after step.

    Args:
        real: Which words are no padding, shape (images, captions an image, steps). Padding comes last.

    Attributes:
        order: Numbers of the sentences in their new order, the empty ones included, shape (sentences,).
        counts: Sentences that are read at each step.
        sentence: Of each word its sentence's number, shape (words,).
        step: And its place in the sentence, shape (words,).
        layouts: How each step's sentences stand beside the first images. Images and captions that come with the longer
            ones first make for few gaps.
        tokens: How the real words, sentence after sentence, stand beside the images.
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

    def caption_after_caption(self, values: Tensor) -> Tensor:
        """From values of the words step after step those of the real words sentence after sentence, as they came."""
        return values.index_select(0, self._tokens)

    def laid_out(self, values: Tensor) -> Tensor:
        """From values of the real words sentence after sentence to shape (sentences, steps, …), 0 at padding."""
        return values.new_zeros(*self._real.shape, *values.shape[1:]).index_put((self._real,), values)


def _round_up(count: int) -> int:
    return -(-count // ROWS) * ROWS
