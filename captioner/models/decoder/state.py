"""What passes between a decoder and those who use it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from captioner.models.decoder.concepts import Candidates
from captioner.models.decoder.ops import Unrolled
from captioner.models.decoder.ragged import Layout

RecurrentState = tuple[Tensor, ...]
"""What recurrent layers remember: h, and c where the cell has one, each of shape (sentences, layers, hidden_size)."""


class KeyValueCache(NamedTuple):
    """What is computed once an image and shared by its sentences; None what the decoder does not use.

    Attributes:
        keys: What attention compares the state with, shape (images, cells, attention_size); of several heads, what they
            mix stands beside it.
        values: What attention mixes where it is not the grid itself, shape (images, cells, any size).
        update: The picture's share of every update, shape (images, gates · hidden_size).
        concepts: The words that the picture suggests.
    """

    keys: Tensor | None = None
    values: Tensor | None = None
    update: Tensor | None = None
    concepts: Candidates | None = None

    def select(self, images: Tensor) -> KeyValueCache:
        """Chosen images, by index."""
        parts = (None if part is None else part.index_select(0, images) for part in self[:3])
        return KeyValueCache(*parts, None if self.concepts is None else self.concepts.select(images))

    def crop(self, images: int) -> KeyValueCache:
        """The first images."""
        parts = (None if part is None else Unrolled.first(part, images) for part in self[:3])
        # Concepts are attended to when the loop over words is done, by all images at once.
        return KeyValueCache(*parts, self.concepts)


class State(NamedTuple):
    """What a decoder remembers of the sentences it is writing.

    Attributes:
        recurrent: h and, where the cell has one, c of every layer.
        cache: What belongs to the images.
        layout: How the sentences stand beside the images: captions when it learns, beams when it writes.
        masks: Of variational dropout while it learns, shape (sentences, 2, layers, hidden_size): what multiplies h of a
            layer on its way to the next word, and on its way up; else None.
    """

    recurrent: RecurrentState
    cache: KeyValueCache
    layout: Layout
    masks: Tensor | None = None

    @property
    def hidden(self) -> Tensor:
        """The state h of every layer, shape (sentences, layers, hidden_size)."""
        return self.recurrent[0]

    def repeat(self, times: int) -> State:
        """Each sentence ``times`` times, side by side."""
        return self._replace(recurrent=tuple(part.repeat_interleave(times, dim=0) for part in self.recurrent))

    def select(self, sentences: Tensor, layout: Layout) -> State:
        """Chosen sentences.

        Args:
            sentences: Indices, in the order wanted, shape (chosen sentences,).
            layout: How these stand beside the images.
        """
        return State(
            tuple(part.index_select(0, sentences) for part in self.recurrent),
            self.cache,
            layout,
            None if self.masks is None else self.masks.index_select(0, sentences),
        )

    def keep(self, images: Tensor) -> State:
        """The same sentences, with what belongs to chosen images; the layout has to follow."""
        return self._replace(cache=self.cache.select(images))

    def first(self, count: int, layout: Layout) -> State:
        """The first sentences, and how they stand beside the first images."""
        if count == len(self.hidden):
            return self._replace(layout=layout)
        return State(
            tuple(part[:count] for part in self.recurrent),
            self.cache.crop(layout.images),
            layout,
            None if self.masks is None else self.masks[:count],
        )


class Step(NamedTuple):
    """The outcome of reading one word: next-word logits, the new state, and where the decoder looked.

    Attributes:
        logits: Shape (sentences, vocabulary).
        state: The state after the word.
        attention: Weights over the cells, shape (sentences, cells), rows sum to 1; with a visual sentinel its weight is
            a further column. None without attention.
    """

    logits: Tensor
    state: State
    attention: Tensor | None


class TeacherForced(NamedTuple):
    """The outcome of reading known captions.

    Attributes:
        logits: Next-word logits at every real word, END included, shape (words, vocabulary): caption after caption.
        targets: The word that was to come, shape (words,).
        attention: Weights over the cells as in `Step`, shape (sentences, steps, cells), all 0 after a sentence's END;
            None without attention.
        chosen: Logarithms of the weights of the cells that hard attention drew, shape (sentences, steps), 0 after a
            sentence's END; None where nothing is drawn.
        members: What each member of the decoder made of them, while several learn.
    """

    logits: Tensor
    targets: Tensor
    attention: Tensor | None
    chosen: Tensor | None = None
    members: tuple[TeacherForced, ...] = ()
