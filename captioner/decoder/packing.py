"""Which words a loop over known captions reads at each step."""

from __future__ import annotations

import torch
from torch import Tensor

from captioner.decoder.layout import Layout

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
        words: How the real words, sentence after sentence, stand beside the images.
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
        words = torch.arange(len(self.sentence), device=real.device)
        places = words.new_empty(self._real.shape).index_put((self.sentence, self.step), words)
        self._words = places[self._real]
        counts = real.flatten(1).sum(1)
        of = torch.arange(images, device=real.device).repeat_interleave(counts)
        self.words = Layout.of(of, torch.arange(len(of), device=real.device) - (counts.cumsum(0) - counts)[of])

    def caption_after_caption(self, values: Tensor) -> Tensor:
        """From values of the words step after step those of the real words sentence after sentence, as they came."""
        return values.index_select(0, self._words)

    def laid_out(self, values: Tensor) -> Tensor:
        """From values of the real words sentence after sentence to shape (sentences, steps, …), 0 at padding."""
        return values.new_zeros(*self._real.shape, *values.shape[1:]).index_put((self._real,), values)


def _round_up(count: int) -> int:
    return -(-count // ROWS) * ROWS
