"""A sentence in the place of a photograph: a recurrent encoder of words, whose states are the decoder's grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from captioner.decoding import DecodingOptions, Hypothesis, decode
from captioner.errors import CaptionerError
from captioner.models.decoder import Decoder, DecoderConfig, TeacherForced
from captioner.text.vocabulary import PAD
from captioner.training.noising import drop_tokens

Cell = Literal["rnn", "gru", "lstm"]
View = Literal["last", "mean", "attention"]
Attention = Literal["soft", "spatial", "top_down"]
CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
CHOICES = {"cell": get_args(Cell), "view": get_args(View), "attention": get_args(Attention)}
"""The values of those fields of a configuration that have few."""

SENTENCES_AT_ONCE = 64
"""Sentences of one length that are decoded together."""


@dataclass(frozen=True)
class TextConfig:
    """Configuration of a network from sentences to sentences or classes.

    Attributes:
        kind: What checkpoints of such networks say that they are.
        cell: Recurrent cell of the encoder; the decoder's is an LSTM.
        view: What the decoder sees of the encoder's states: ``last`` is the final one of each direction, ``mean`` their
            mean, and ``attention`` adds attention over all of them at every word.
        attention: The decoder's attention, if the view has one: ``soft`` attends before the word that was written last
            is read, ``spatial`` and ``top_down`` after it; see `captioner.models.decoder.DecoderConfig`.
        bidirectional: Whether a second encoder reads the sentence from its end.
        layers: Number of stacked recurrent layers of the encoder.
        embedding_size: Length of a word vector, on both sides.
        embedding_scale: Standard deviation of the initial vectors of the words read. If it is small, a rare word says
            little until it is learned; if it is large, attention tells words apart from the beginning.
        normalized: Whether each of the encoder's states is normalized (Ba et al., 2016): states are small at first, so
            that attention sees little difference between them for long.
        hidden_size: Length of the decoder's state, and of the encoder's states, both directions together.
        dropout: Dropout rate of word vectors, states, and before the output, in [0, 1).
    """

    kind: ClassVar[str] = "text tasks"

    cell: Cell = "lstm"
    view: View = "attention"
    attention: Attention = "soft"
    bidirectional: bool = True
    layers: int = 1
    embedding_size: int = 256
    embedding_scale: float = 1.0
    normalized: bool = False
    hidden_size: int = 512
    dropout: float = 0.5

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise CaptionerError(f"{name} {getattr(self, name)!r} is unknown; choose {' or '.join(known)}")
        for name in ("layers", "embedding_size", "hidden_size"):
            if getattr(self, name) < 1:
                raise CaptionerError(f"{name.replace('_', ' ')} is {getattr(self, name)}; it must be at least 1")
        if self.bidirectional and self.hidden_size % 2:
            raise CaptionerError(f"hidden size is {self.hidden_size}; two directions need an even number")
        if not 0 <= self.dropout < 1:
            raise CaptionerError(f"dropout is {self.dropout}; it must be at least 0 and less than 1")

    @property
    def decoder(self) -> DecoderConfig:
        """Configuration of the decoder, whose first state is computed from the mean of the grid."""
        return DecoderConfig(
            attention=self.attention if self.view == "attention" else "none",
            image_input="initial_state",
            embedding_size=self.embedding_size,
            hidden_size=self.hidden_size,
            attention_size=self.hidden_size // 2,
            dropout=self.dropout,
            tied_embedding=True,
        )

    def make_encoder(self, vocabulary_size: int) -> Encoder:
        """Build the encoder with random weights.

        Args:
            vocabulary_size: Number of tokens that are read, the special ones included.
        """
        return TextEncoder(self, vocabulary_size)


class Encoder(nn.Module):
    """A network that maps what it reads to the decoder's grid.

    Attributes:
        channels: Length of each vector of the grid.
    """

    channels: int

    def encode(self, sources: Sequence[Any], word_dropout: float = 0.0) -> Tensor:
        """Encode sources whose grids have one size.

        Args:
            sources: What is read, such as the token ids of sentences.
            word_dropout: Share of the words that are replaced by UNKNOWN.

        Returns:
            The grid, shape (sources, vectors, channels).
        """
        raise NotImplementedError


class TextEncoder(Encoder):
    """A recurrent network that maps the words of a sentence to a grid of vectors.

    The vector of word i is its state h_i, followed by that of the reversed direction if there is one (Schuster and
    Paliwal, 1997). For the view ``last``, the grid has a single vector: the state after the last word, followed by the
    reversed direction's after the first.

    Args:
        config: Configuration of the whole network.
        vocabulary_size: Number of tokens, the special ones included.

    Attributes:
        channels: Length of each vector.
    """

    def __init__(self, config: TextConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.channels = config.hidden_size
        self.embedding = nn.Embedding(vocabulary_size, config.embedding_size, padding_idx=PAD)
        with torch.no_grad():
            self.embedding.weight *= config.embedding_scale
        self.cells = CELLS[config.cell](
            config.embedding_size,
            config.hidden_size // (2 if config.bidirectional else 1),
            config.layers,
            batch_first=True,
            dropout=config.dropout if config.layers > 1 else 0.0,
            bidirectional=config.bidirectional,
        )
        self.norm = nn.LayerNorm(self.channels) if config.normalized else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, sentences: Tensor) -> Tensor:
        """Encode sentences of one length, which need neither padding nor a mask.

        Args:
            sentences: Token ids, shape (sentences, words).

        Returns:
            The vectors, shape (sentences, words, channels); (sentences, 1, channels) for the view ``last``.
        """
        states, _ = self.cells(self.dropout(self.embedding(sentences)))
        if self.config.view == "last":
            forward, backward = states[:, -1:], states[:, :1]
            half = self.channels // 2
            states = (
                torch.cat([forward[..., :half], backward[..., half:]], -1) if self.config.bidirectional else forward
            )
        grid: Tensor = self.dropout(self.norm(states))
        return grid

    def encode(self, sources: Sequence[Sequence[int]], word_dropout: float = 0.0) -> Tensor:
        """Encode the token ids of sentences of one length, as `Encoder.encode`."""
        grid: Tensor = self(drop_words(torch.tensor(sources), word_dropout))
        return grid


def drop_words(tokens: Tensor, share: float) -> Tensor:
    """Replace a share of the words by UNKNOWN; without one, draw no random numbers."""
    return drop_tokens(tokens, share) if share else tokens


class TextModel(nn.Module):
    """An encoder of text and the captioner's decoder.

    Args:
        config: Configuration of both.
        source_size: Number of tokens that are read, the special ones included.
        target_size: Number of tokens that are written, the special ones included.
    """

    def __init__(self, config: TextConfig, source_size: int, target_size: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = config.make_encoder(source_size)
        self.decoder = Decoder(config.decoder, self.encoder.channels, target_size)

    def forward(self, sources: Sequence[Sized], targets: Tensor, word_dropout: float = 0.0) -> TeacherForced:
        """Predict each token of the known targets (teacher forcing).

        Args:
            sources: What the encoder reads, of one length.
            targets: Token ids, START first, END last, then PAD, shape (sources, length).
            word_dropout: Share of the words read, and of the tokens fed back, that are replaced by UNKNOWN.

        Returns:
            The result of `Decoder.forward`.
        """
        grid = self.encoder.encode(sources, word_dropout)
        fed_back = drop_words(targets, word_dropout).unsqueeze(1)
        outcome: TeacherForced = self.decoder(grid, targets.unsqueeze(1), fed_back)
        return outcome

    def write(self, sources: Sequence[Sized], options: DecodingOptions) -> list[Hypothesis]:
        """Generate what follows from each source, as `write_together`."""
        return write_together([self], sources, options)


@torch.inference_mode()
def write_together(models: Sequence[TextModel], sources: Sequence[Sized], options: DecodingOptions) -> list[Hypothesis]:
    """Generate what follows from each source by the mean log-probabilities of several networks.

    Args:
        models: Networks with the same vocabularies.
        sources: What the encoders read, such as the token ids of each sentence, of any lengths, at least one each.
        options: Options of the search.

    Returns:
        The best hypothesis of each; with attention, its weights have the shape (tokens, vectors of the grid).
    """
    results: dict[int, Hypothesis] = {}
    for batch in equal_lengths([len(source) for source in sources], SENTENCES_AT_ONCE):
        grids = [model.eval().encoder.encode([sources[index] for index in batch]) for model in models]
        found = decode([model.decoder for model in models], grids, options)
        results |= {index: best[0] for index, best in zip(batch, found, strict=True)}
    return [results[index] for index in range(len(sources))]


def equal_lengths(lengths: Sequence[int], most: int, order: Sequence[int] | None = None) -> list[list[int]]:
    """Divide sentences into batches of one length each.

    Args:
        lengths: The length of each sentence.
        most: Greatest number of sentences of a batch.
        order: The order in which to take them; by default that of the indices.

    Returns:
        The indices of the sentences of each batch.
    """
    groups: dict[int, list[int]] = {}
    for index in range(len(lengths)) if order is None else order:
        groups.setdefault(lengths[index], []).append(index)
    return [group[begin : begin + most] for group in groups.values() for begin in range(0, len(group), most)]
