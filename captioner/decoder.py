"""The decoder: an LSTM that writes a caption word by word, looking at the picture as it goes.

Equations are those of Show and Tell (Vinyals et al., 2015) and Show, Attend and Tell (Xu et al., 2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from captioner.attention import SoftAttention
from captioner.errors import CaptionerError
from captioner.recurrent import StackedLSTM
from captioner.vocabulary import PAD


@dataclass(frozen=True)
class DecoderConfig:
    """The shape of a decoder.

    Attributes:
        attention: ``soft`` looks at the grid at every word; ``none`` sees the picture once, at the start.
        image_input: How the picture enters at the start: ``initial_state`` computes h_0 and c_0 from the mean feature
            vector (Show, Attend and Tell); ``first_word`` projects it into the word-embedding space and reads it before
            the first word (Show and Tell).
        embedding_size: Length of a word vector, a row of E.
        hidden_size: Length of the LSTM's state.
        attention_size: Length of the space in which state and cells are compared.
        layers: Number of stacked LSTM layers.
        dropout: Share of values dropped from word vectors, between layers and before the output, in [0, 1).
        tied_embedding: Whether E also maps the output to words (Press and Wolf, 2017).
    """

    attention: Literal["none", "soft"] = "soft"
    image_input: Literal["initial_state", "first_word"] = "initial_state"
    embedding_size: int = 512
    hidden_size: int = 512
    attention_size: int = 512
    layers: int = 1
    dropout: float = 0.5
    tied_embedding: bool = False

    def __post_init__(self) -> None:
        for name, known in (("attention", ("none", "soft")), ("image_input", ("initial_state", "first_word"))):
            if getattr(self, name) not in known:
                raise CaptionerError(f"decoder.{name} {getattr(self, name)!r} is unknown; choose {' or '.join(known)}")
        for name in ("embedding_size", "hidden_size", "attention_size", "layers"):
            if getattr(self, name) < 1:
                raise CaptionerError(f"decoder.{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.dropout < 1:
            raise CaptionerError(f"decoder.dropout is {self.dropout}; it must be at least 0 and less than 1")


class State(NamedTuple):
    """What a decoder remembers of the sentences it is writing.

    The sentences of an image stand side by side, equally many for each image: captions when it learns, beams when it
    writes.

    Attributes:
        hidden: h of every layer, shape (sentences, layers, hidden_size).
        cell: c of every layer, likewise.
        keys: The attention's keys, shape (images, cells, attention_size), computed once an image and shared by its
            sentences; None without attention.
    """

    hidden: Tensor
    cell: Tensor
    keys: Tensor | None

    def repeat(self, times: int) -> State:
        """Each sentence ``times`` times, side by side."""
        return self._replace(
            hidden=self.hidden.repeat_interleave(times, dim=0), cell=self.cell.repeat_interleave(times, dim=0)
        )

    def select(self, sentences: Tensor, images: Tensor | None = None) -> State:
        """Chosen sentences, in the order given.

        Args:
            sentences: Indices, shape (chosen sentences,).
            images: Indices of the images that stay, shape (chosen images,); all by default.
        """
        keys = self.keys if images is None or self.keys is None else self.keys[images]
        return State(self.hidden[sentences], self.cell[sentences], keys)


class Step(NamedTuple):
    """The outcome of reading one word: next-word logits, the new state, and where the decoder looked.

    Attributes:
        logits: Shape (sentences, vocabulary).
        state: The state after the word.
        attention: Weights over the cells, shape (sentences, cells), rows sum to 1; None without attention.
    """

    logits: Tensor
    state: State
    attention: Tensor | None


class TeacherForced(NamedTuple):
    """The outcome of reading known captions.

    Attributes:
        logits: Next-word logits at every real word, END included, shape (words, vocabulary): caption after caption.
        targets: The word that was to come, shape (words,).
        attention: Weights over the cells, shape (sentences, steps, cells), all 0 after a sentence's END; None without
            attention.
    """

    logits: Tensor
    targets: Tensor
    attention: Tensor | None


class Decoder(nn.Module):
    """An LSTM language model that is shown a picture.

    Args:
        config: Its shape.
        channels: Length of the encoder's feature vectors.
        vocabulary_size: Number of words, the special ones included.
    """

    def __init__(self, config: DecoderConfig, channels: int, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        size = config.hidden_size
        self.embedding = nn.Embedding(vocabulary_size, config.embedding_size, padding_idx=PAD)
        self.attention = SoftAttention(channels, size, config.attention_size) if config.attention == "soft" else None
        self.lstm = StackedLSTM(config.embedding_size, size, config.layers, config.dropout)
        if self.attention:
            # The columns of the lowest W_x that multiply the context; the words' columns are in the LSTM.
            self.context = nn.Linear(channels, 4 * size, bias=False)
        if config.image_input == "first_word":
            self.image_word = nn.Linear(channels, config.embedding_size)
        else:
            self.initial_state = nn.Linear(channels, 2 * config.layers * size)
        self.dropout = nn.Dropout(config.dropout)
        # A tied E needs the output in word-embedding space.
        needs_reduction = config.tied_embedding and size != config.embedding_size
        self.reduction = nn.Linear(size, config.embedding_size, bias=False) if needs_reduction else nn.Identity()
        self.output = None if config.tied_embedding else nn.Linear(size, vocabulary_size, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(vocabulary_size))
        with torch.no_grad():
            self.embedding.weight.uniform_(-0.1, 0.1)
            self.embedding.weight[PAD] = 0

    def start(self, grid: Tensor) -> State:
        """Shows the decoder its pictures, before any word.

        Args:
            grid: Feature vectors, shape (images, cells, channels).

        Returns:
            The state of one sentence for each image.
        """
        mean = grid.mean(dim=1)
        keys = self.attention.keys(grid) if self.attention else None
        shape = (self.config.layers, self.config.hidden_size)
        if self.config.image_input == "initial_state":
            hidden, cell = torch.tanh(self.initial_state(mean)).chunk(2, dim=1)
            return State(hidden.reshape(-1, *shape), cell.reshape(-1, *shape), keys)
        zero = mean.new_zeros(len(grid), *shape)
        state, _ = self._advance(self._project(self.image_word(mean)), State(zero, zero, keys), grid)
        return state

    def step(self, words: Tensor, state: State, grid: Tensor) -> Step:
        """Advances every sentence by one word.

        Args:
            words: Ids of the words just read, shape (sentences,).
            state: The state after the words before them.
            grid: Feature vectors, shape (images, cells, channels).

        Returns:
            Next-word logits, the new state, and the attention under which the new state was reached.
        """
        projected = self._project(self.dropout(self.embedding(words)))
        state, attention = self._advance(projected, state, grid)
        return Step(self._logits(state.hidden[:, -1]), state, attention)

    def forward(self, grid: Tensor, captions: Tensor) -> TeacherForced:
        """Reads known captions, each word with the words before it (teacher forcing).

        The same arithmetic as `step` in a loop, with what is known ahead done at once: the input projection of all
        words, the output of the real words alone, and without attention the whole recurrence.

        Args:
            grid: Feature vectors, shape (images, cells, channels).
            captions: Word ids, START first, END last, then PAD, shape (images, captions an image, length). Images and
                captions that come with the longer ones first cost least.

        Returns:
            Logits and targets of the real words, and the attention.
        """
        per_image = captions.shape[1]
        real = captions[:, :, 1:] != PAD  # (images, n, steps)
        steps = int(real.any(dim=(0, 1)).sum())
        real = real[:, :, :steps]
        words, targets = captions[:, :, :steps], captions[:, :, 1 : steps + 1]
        state = self.start(grid).repeat(per_image)
        embedded = self.dropout(self.embedding(words))  # (images, n, steps, embedding)
        if self.attention is None:
            outputs, _ = self.lstm(
                embedded.flatten(0, 1).transpose(0, 1),
                (state.hidden.transpose(0, 1).contiguous(), state.cell.transpose(0, 1).contiguous()),
            )
            outputs = outputs.transpose(0, 1)  # (sentences, steps, hidden)
            return TeacherForced(self._logits(outputs[real.flatten(0, 1)]), targets[real], None)
        outputs, attention = self._attend(self._project(embedded), state, grid, real)
        return TeacherForced(self._logits(outputs), targets[real], attention)

    def _attend(self, projected: Tensor, state: State, grid: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """The recurrence with attention over known captions.

        Each step runs on the smallest block of images × captions that holds every sentence which is not over.

        Args:
            projected: Input projections, shape (images, n, steps, 4 · hidden_size).
            state: State at the start, of images · n sentences.
            grid: Feature vectors, shape (images, cells, channels).
            real: Which words are no padding, shape (images, n, steps).

        Returns:
            Hidden states of the real words, caption after caption, shape (words, hidden_size), and the attention,
            shape (images · n, steps, cells).
        """
        images, per_image, _ = real.shape
        rows = torch.arange(images * per_image, device=grid.device).view(images, per_image)
        extents = [(int(r.any(1).nonzero().max()) + 1, int(r.any(0).nonzero().max()) + 1) for r in real.unbind(2)]
        outputs, weights = [], []
        height, width = images, per_image
        for step, (open_images, open_captions) in enumerate(extents):
            if (open_images, open_captions) != (height, width):
                kept = torch.arange(height * width, device=grid.device).view(height, width)
                kept = kept[:open_images, :open_captions].flatten()
                height, width = open_images, open_captions
                grid = grid[:height]
                keys = None if state.keys is None else state.keys[:height]
                state = State(state.hidden[kept], state.cell[kept], keys)
            state, attention = self._advance(projected[:height, :width, step].flatten(0, 1), state, grid)
            assert attention is not None
            is_real = real[:height, :width, step].flatten()
            outputs.append(state.hidden[is_real, -1])
            block = attention.new_zeros(images * per_image, attention.shape[1])
            weights.append(block.index_put((rows[:height, :width].flatten()[is_real],), attention[is_real]))
        # The loop collected word after word; the loss wants caption after caption.
        sentence, time = real.flatten(0, 1).nonzero(as_tuple=True)
        order = torch.empty_like(sentence)
        order[torch.argsort(time * (images * per_image) + sentence)] = torch.arange(len(sentence), device=grid.device)
        return torch.cat(outputs)[order], torch.stack(weights, dim=1)

    def _project(self, embedded: Tensor) -> Tensor:
        """The word's share of the lowest layer's W_x x + b: (…, embedding) → (…, 4 · hidden)."""
        weight, _, bias_x, bias_h = self.lstm.weights(0)
        return linear(embedded, weight, bias_x + bias_h)

    def _advance(self, projected: Tensor, state: State, grid: Tensor) -> tuple[State, Tensor | None]:
        """One step of the recurrence: look (with attention), then remember."""
        attention = None
        if self.attention is not None:
            assert state.keys is not None
            context, attention = self.attention(state.hidden[:, -1], state.keys, grid)
            projected = projected + self.context(context)
        hidden, cell = self.lstm.step(projected, state.hidden, state.cell)
        return State(hidden, cell, state.keys), attention

    def _logits(self, hidden: Tensor) -> Tensor:
        """From the top layer's h, shape (…, hidden_size), to next-word logits (…, vocabulary)."""
        weight = self.embedding.weight if self.output is None else self.output.weight
        return linear(self.reduction(self.dropout(hidden)), weight, self.output_bias)
