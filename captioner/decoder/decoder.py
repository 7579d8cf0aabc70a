"""The decoder: words in, logits of the next word out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from captioner.decoder.adaptive import AdaptiveCore
from captioner.decoder.config import DecoderConfig
from captioner.decoder.core import Core
from captioner.decoder.state import State, Step, TeacherForced
from captioner.decoder.top_down import TopDownCore
from captioner.decoder.unrolled import Unrolled
from captioner.vocabulary import PAD


class Decoder(nn.Module):
    """A recurrent language model that is shown a picture.

    Word embedding, a core that reads and looks, and the output layer.

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
        cores: dict[str, type[Core]] = {"adaptive": AdaptiveCore, "top_down": TopDownCore}
        self.core = cores.get(config.attention, Core)(config, channels)
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
            grid: Feature vectors, shape (images, cells, channels); for a language model, of no cells.

        Returns:
            The state of one sentence for each image.
        """
        return self.core.start(grid)

    def step(self, words: Tensor, state: State, grid: Tensor) -> Step:
        """Advances every sentence by one word.

        Args:
            words: Ids of the words just read, shape (sentences,).
            state: The state after the words before them.
            grid: Feature vectors, shape (images, cells, channels).

        Returns:
            Next-word logits, the new state, and where the decoder looked on its way to it.
        """
        projected = self.core.project(self.dropout(self.embedding(words)))
        state, output, attention, _ = self.core.advance(projected, state, grid)
        return Step(self._logits(self.dropout(output)), state, attention)

    def forward(self, grid: Tensor, captions: Tensor, read: Tensor | None = None) -> TeacherForced:
        """Reads known captions, each word with the words before it (teacher forcing).

        The same arithmetic as `step` in a loop, with what is known ahead done at once: the input projection of all
        words, the output of the real words alone, and where nothing but words enters, the whole recurrence.

        Args:
            grid: Feature vectors, shape (images, cells, channels).
            captions: Word ids, START first, END last, then PAD, shape (images, captions an image, length). Images and
                captions that come with the longer ones first cost least.
            read: Words to be read in the captions' places, shaped like them; their own by default.

        Returns:
            Logits and targets of the real words, and the attention.
        """
        images, per_image, _ = captions.shape
        real = captions[:, :, 1:] != PAD  # (images, n, steps)
        steps = int(real.any(dim=(0, 1)).sum())
        real, targets = real[:, :, :steps], captions[:, :, 1 : steps + 1]
        words = (captions if read is None else read)[:, :, :steps]
        embedded, state = self._embed(words.flatten(0, 1), self.start(grid).repeat(per_image))
        if self.core.fuses(state):
            outputs, _ = self.core.read(embedded, state, grid)
            return TeacherForced(self._logits(self.dropout(outputs[real.flatten(0, 1)])), targets[real], None)
        projected = self.core.project(embedded)
        projected = projected.view(images, per_image, *projected.shape[1:])
        logits, attention, chosen = self._unroll(projected, state, grid, real)
        return TeacherForced(logits, targets[real], attention, chosen)

    def read(self, words: Tensor, state: State, grid: Tensor) -> tuple[Tensor, State]:
        """Reads known words of sentences that go on before and after.

        Args:
            words: Ids, shape (sentences, steps).
            state: The state after the words before them.
            grid: Feature vectors, shape (images, cells, channels).

        Returns:
            Next-word logits after each word, shape (sentences, steps, vocabulary), and the state after the last.
        """
        embedded, state = self._embed(words, state)
        outputs, state = self.core.read(embedded, state, grid)
        return self._logits(self._drop(outputs, state)), state._replace(masks=None)

    def _unroll(
        self, projected: Tensor, state: State, grid: Tensor, real: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The recurrence over known captions.

        Each step runs on the smallest block of images × captions that holds every sentence which is not over.

        Args:
            projected: What the core made of the words, shape (images, n, steps, size).
            state: State at the start, of images · n sentences.
            grid: Feature vectors, shape (images, cells, channels).
            real: Which words are no padding, shape (images, n, steps).

        Returns:
            Logits of the real words, attention and chosen cells as in `TeacherForced`.
        """
        images, per_image, _ = real.shape
        rows = torch.arange(images * per_image, device=grid.device).view(images, per_image)
        extents = [(int(r.any(1).nonzero().max()) + 1, int(r.any(0).nonzero().max()) + 1) for r in real.unbind(2)]
        outputs: list[Tensor] = []
        looks: list[Tensor] = []
        choices: list[Tensor] = []
        height, width = images, per_image
        with Unrolled():
            for step, (open_images, open_captions) in enumerate(extents):
                if (open_images, open_captions) != (height, width):
                    kept = torch.arange(height * width, device=grid.device).view(height, width)
                    kept = kept[:open_images, :open_captions].flatten()
                    height, width = open_images, open_captions
                    grid = grid[:height]
                    state = state.select(kept, torch.arange(height, device=grid.device))
                advanced = self.core.advance(projected[:height, :width, step].flatten(0, 1), state, grid)
                state = advanced.state
                is_real = real[:height, :width, step].flatten()
                outputs.append(self._drop(advanced.output, state)[is_real])
                places = rows[:height, :width].flatten()[is_real]
                for kept_values, values in ((looks, advanced.attention), (choices, advanced.chosen)):
                    if values is not None:
                        block = values.new_zeros(images * per_image, *values.shape[1:])
                        kept_values.append(block.index_put((places,), values[is_real]))
        # The loop collected word after word; the loss wants caption after caption.
        sentence, time = real.flatten(0, 1).nonzero(as_tuple=True)
        order = torch.empty_like(sentence)
        order[torch.argsort(time * (images * per_image) + sentence)] = torch.arange(len(sentence), device=grid.device)
        attention, chosen = (torch.stack(values, dim=1) if values else None for values in (looks, choices))
        return self._logits(torch.cat(outputs)[order]), attention, chosen

    def _embed(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """The vectors of known words, shape (sentences, steps, embedding_size), after dropout, whose masks it draws."""
        embedded = self.embedding(words)
        if not (self.training and self.config.variational_dropout and self.config.dropout > 0):
            return self.dropout(embedded), state
        sentences, layers, size = state.hidden.shape
        state = state._replace(masks=self.dropout(state.hidden.new_ones(sentences, 2, layers, size)))
        return embedded * self.dropout(embedded.new_ones(sentences, 1, embedded.shape[2])), state

    def _drop(self, output: Tensor, state: State) -> Tensor:
        """Dropout before the output layer, for outputs of shape (sentences, …, hidden_size)."""
        if state.masks is None:
            dropped: Tensor = self.dropout(output)
            return dropped
        mask = state.masks[:, 1, -1]
        return output * (mask if output.ndim == mask.ndim else mask.unsqueeze(1))

    def _logits(self, output: Tensor) -> Tensor:
        """From the core's output, shape (…, hidden_size), to next-word logits (…, vocabulary)."""
        weight = self.embedding.weight if self.output is None else self.output.weight
        return linear(self.reduction(output), weight, self.output_bias)
