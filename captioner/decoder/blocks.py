"""Which words a loop over known captions reads at each step."""

from __future__ import annotations

import torch
from torch import Tensor


class Blocks:
    """For each step the smallest block of images × captions that holds every sentence which is not over.

    Images and captions that come with the longer ones first make small blocks. What belongs to the words that are read
    stands block after block, and within a block image after image.

    Args:
        real: Which words are no padding, shape (images, captions an image, steps).

    Attributes:
        extents: The images and the captions of each step's block.
        sizes: Their products.
        sentence: Of each word that is read, its sentence's number, shape (words read,).
        step: And its place in the sentence, shape (words read,).
    """

    def __init__(self, real: Tensor) -> None:
        images, captions, steps = real.shape
        self.extents = [(_extent(each.any(1)), _extent(each.any(0))) for each in real.unbind(2)]
        self.sizes = [height * width for height, width in self.extents]
        rows = torch.arange(images * captions, device=real.device).view(images, captions)
        self.sentence = torch.cat([rows[:height, :width].flatten() for height, width in self.extents])
        self.step = torch.arange(steps).repeat_interleave(torch.tensor(self.sizes)).to(real.device)
        self._real = real.flatten(0, 1)
        words = torch.arange(len(self.sentence), device=real.device)
        places = words.new_empty(self._real.shape).index_put((self.sentence, self.step), words)
        self._order = places[self._real]

    def caption_after_caption(self, values: Tensor) -> Tensor:
        """From values of the words read those of the real words, sentence after sentence."""
        return values.index_select(0, self._order)

    def laid_out(self, values: Tensor) -> Tensor:
        """From values of the words read those of the real words, shape (sentences, steps, …), 0 at padding."""
        real = self.caption_after_caption(values)
        return real.new_zeros(*self._real.shape, *real.shape[1:]).index_put((self._real,), real)


def _extent(used: Tensor) -> int:
    return int(used.nonzero().max()) + 1
