"""The shape of a decoder."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args, get_type_hints

from captioner.errors import CaptionerError

Cell = Literal["rnn", "gru", "lstm", "peephole"]
Attention = Literal["none", "soft", "multiplicative", "multi_head", "hard", "spatial", "adaptive", "top_down"]
ImageInput = Literal["none", "first_word", "initial_state", "every_step"]
ConceptUse = Literal["none", "attend", "copy"]

CELLS_WITH_MEMORY = ("lstm", "peephole")
"""Those that carry c beside h."""


@dataclass(frozen=True)
class DecoderConfig:
    """The shape of a decoder, one field for each choice.

    Attributes:
        cell: ``rnn`` is the vanilla network with tanh; ``gru``; ``lstm``; ``peephole`` is an LSTM whose gates see c.
        attention: ``none`` sees the picture through ``image_input`` alone. The others look at the grid at every word:
            ``soft`` compares by addition (Bahdanau), ``multiplicative`` by a product (Luong), ``multi_head`` in several
            ways at once, ``hard`` at one cell, ``spatial`` looks after it has read the last word, not before, and
            ``adaptive`` may then look away (visual sentinel); ``top_down`` has an LSTM to look and another to write.
        image_input: How the picture as a whole enters: ``initial_state`` computes the first state from the mean feature
            vector (Show, Attend and Tell); ``first_word`` projects it into the word-embedding space and reads it before
            the first word (Show and Tell); ``every_step`` adds its projection to every update; ``none`` leaves it out,
            and without attention makes a language model.
        embedding_size: Length of a word vector, a row of E.
        hidden_size: Length of the state h.
        attention_size: Length of the space in which state and cells of the grid are compared.
        heads: Ways of looking at once; for ``multi_head`` alone.
        layers: Number of stacked recurrent layers.
        dropout: Share of values dropped from word vectors, between layers and before the output, in [0, 1).
        variational_dropout: Whether a sentence has one mask for all its words, which then drops from h along time too
            (Gal and Ghahramani, 2016).
        tied_embedding: Whether E also maps the output to words (Press and Wolf, 2017).
        concepts: Whether the decoder is given words that the picture suggests (`captioner.models.decoder.concepts`):
            ``attend`` lets it attend to them, ``copy`` lets it also copy them into the caption.
        concept_size: Length of the space in which concepts are compared.
        concept_words: How many words can be concepts; 0 without them.
        concept_classes: How many classes of the pretrained CNN are kept; 0 for none.
        members: Decoders of this shape that learn side by side on one CNN and write together.
    """

    cell: Cell = "lstm"
    attention: Attention = "soft"
    image_input: ImageInput = "initial_state"
    embedding_size: int = 512
    hidden_size: int = 512
    attention_size: int = 512
    heads: int = 4
    layers: int = 1
    dropout: float = 0.5
    variational_dropout: bool = False
    tied_embedding: bool = False
    concepts: ConceptUse = "none"
    concept_size: int = 128
    concept_words: int = 0
    concept_classes: int = 0
    members: int = 1

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            value, known = getattr(self, field.name), get_args(hints[field.name])
            if known and value not in known:
                raise CaptionerError(f"decoder.{field.name} {value!r} is unknown; choose {' or '.join(known)}")
        for name in ("embedding_size", "hidden_size", "attention_size", "concept_size", "heads", "layers", "members"):
            if getattr(self, name) < 1:
                raise CaptionerError(f"decoder.{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.dropout < 1:
            raise CaptionerError(f"decoder.dropout is {self.dropout}; it must be at least 0 and less than 1")
        if self.attention == "multi_head" and self.attention_size % self.heads:
            raise CaptionerError(
                f"decoder.attention_size {self.attention_size} is no multiple of decoder.heads {self.heads}"
            )
        if self.attention == "adaptive" and self.cell not in CELLS_WITH_MEMORY:
            raise CaptionerError(
                f"decoder.attention adaptive needs a cell with a memory c, not decoder.cell {self.cell}; choose "
                f"{' or '.join(CELLS_WITH_MEMORY)}"
            )
        if self.attention == "top_down" and self.layers != 1:
            raise CaptionerError(
                f"decoder.attention top_down is two LSTMs by itself; decoder.layers {self.layers} must be 1"
            )
        if self.attention == "hard" and self.members != 1:
            raise CaptionerError(
                f"decoder.members {self.members} cannot learn together with decoder.attention hard, which draws "
                "cells for each; train them apart, and put them together with captioner export --ensemble"
            )
