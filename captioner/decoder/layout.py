"""How sentences stand beside the images that they describe."""

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
        places: Where each sentence stands in a block of all images, row after row, shape (sentences,); None where the
            sentences stand side by side already, equally many for each image.
        sentences: The sentence at each place of the block, shape (images · rows,); their number where there is none.
    """

    images: int
    places: Tensor | None = None
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
        places = image * rows + row
        if len(places) == images * rows and bool((places[1:] > places[:-1]).all()):
            return cls(images)  # a full block in order, for which nothing has to move
        sentences = torch.full((images * rows,), len(places), device=places.device)
        sentences[places] = torch.arange(len(places), device=places.device)
        return cls(images, places, sentences)

    def to_block(self, x: Tensor) -> Tensor:
        """From (sentences, size) to (images, rows, size); the gaps hold the first sentence's numbers."""
        if self.places is None:
            return x.reshape(self.images, -1, x.shape[-1])
        block: Tensor = _ToBlock.apply(x, self.places, self.sentences)
        return block.view(self.images, -1, x.shape[-1])

    def to_sentences(self, block: Tensor) -> Tensor:
        """From (images, rows, size) to (sentences, size)."""
        flat = block.flatten(0, 1)
        if self.places is None:
            return flat
        x: Tensor = _ToSentences.apply(flat, self.places, self.sentences)
        return x


class _ToBlock(Function):
    """Its gradient takes the way back: no sum is needed, as torch would for indices that may come twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, sentences: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(places)
        return torch.cat([x, x[:1]]).index_select(0, sentences)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        [places] = ctx.saved_tensors
        return gradient.index_select(0, places), None, None


class _ToSentences(Function):
    """Nothing comes back to the gaps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, sentences: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(sentences)
        return x.index_select(0, places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        [sentences] = ctx.saved_tensors
        return torch.cat([gradient, torch.zeros_like(gradient[:1])]).index_select(0, sentences), None, None
