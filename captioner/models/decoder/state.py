"""Inputs and outputs of a decoder."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from captioner.models.decoder.concepts import Candidates
from captioner.models.decoder.ops import Unrolled
from captioner.models.decoder.ragged import Layout

RecurrentState = tuple[Tensor, ...]
"""State of the recurrent layers: h, and c where the cell has one, each of shape (sentences, layers, hidden_size)."""


class KeyValueCache(NamedTuple):
    """Tensors computed once per image and shared by its sentences; None for those the decoder does not use.

    Attributes:
        keys: Keys of the attention, shape (images, regions, attention_size); with several heads, followed by their
            values.
        values: Values of the attention if they are not the grid itself, shape (images, regions, any size).
        update: The image's share of every recurrent update, shape (images, gates · hidden_size).
        concepts: The words that the image suggests.
    """

    keys: Tensor | None = None
    values: Tensor | None = None
    update: Tensor | None = None
    concepts: Candidates | None = None

    def select(self, images: Tensor) -> KeyValueCache:
        """Select images by index."""
        keys, values, update = (None if part is None else part.index_select(0, images) for part in self[:3])
        concepts = None if self.concepts is None else self.concepts.select(images)
        return KeyValueCache(keys, values, update, concepts)

    def crop(self, images: int) -> KeyValueCache:
        """Select the first images."""
        keys, values, update = (None if part is None else Unrolled.first(part, images) for part in self[:3])
        # Concepts are attended to after the loop over tokens, for all images at once.
        return KeyValueCache(keys, values, update, self.concepts)


class State(NamedTuple):
    """State of a decoder.

    Attributes:
        recurrent: h and, where the cell has one, c of every layer.
        cache: Tensors of the images.
        layout: Assignment of sentences to images: captions in training, hypotheses in decoding.
        masks: Masks of variational dropout in training, shape (sentences, 2, layers, hidden_size): the factors of each
            layer's h on its way to the next step, and to the layer above. None otherwise.
    """

    recurrent: RecurrentState
    cache: KeyValueCache
    layout: Layout
    masks: Tensor | None = None

    @property
    def hidden(self) -> Tensor:
        """Hidden state h of every layer, shape (sentences, layers, hidden_size)."""
        return self.recurrent[0]

    def repeat(self, times: int) -> State:
        """Repeat each sentence ``times`` times, side by side."""
        return self._replace(recurrent=tuple(part.repeat_interleave(times, dim=0) for part in self.recurrent))

    def select(self, sentences: Tensor, layout: Layout) -> State:
        """Select sentences.

        Args:
            sentences: Indices of the sentences, in the new order, shape (selected,).
            layout: Their assignment to images.
        """
        return State(
            tuple(part.index_select(0, sentences) for part in self.recurrent),
            self.cache,
            layout,
            None if self.masks is None else self.masks.index_select(0, sentences),
        )

    def keep(self, images: Tensor) -> State:
        """Select the images of the cache; the layout must be replaced accordingly."""
        return self._replace(cache=self.cache.select(images))

    def first(self, count: int, layout: Layout) -> State:
        """Select the first sentences, with their layout over the first images."""
        if count == len(self.hidden):
            return self._replace(layout=layout)
        return State(
            tuple(part[:count] for part in self.recurrent),
            self.cache.crop(layout.images),
            layout,
            None if self.masks is None else self.masks[:count],
        )


class Step(NamedTuple):
    """The result of one decoding step.

    Attributes:
        logits: Next-token logits, shape (sentences, vocabulary).
        state: The state after the token.
        attention: Attention weights, shape (sentences, regions), rows sum to 1; the weight of a visual sentinel is an
            additional last column. None without attention.
    """

    logits: Tensor
    state: State
    attention: Tensor | None


class TeacherForced(NamedTuple):
    """The result of teacher forcing.

    Attributes:
        logits: Next-token logits of the real tokens, END included, caption after caption, shape (tokens, vocabulary).
        targets: Target tokens, shape (tokens,); negative for those that are not learned.
        attention: Attention weights as in `Step`, shape (sentences, steps, regions), 0 after END; None without
            attention.
        chosen: Logarithms of the weights of the regions that hard attention has sampled, shape (sentences, steps), 0
            after END; None where nothing is sampled.
        members: The results of the members of the decoder, in training.
    """

    logits: Tensor
    targets: Tensor
    attention: Tensor | None
    chosen: Tensor | None = None
    members: tuple[TeacherForced, ...] = ()
