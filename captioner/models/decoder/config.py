"""Configuration of a decoder."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args, get_type_hints

from captioner.errors import CaptionerError

Cell = Literal["rnn", "gru", "lstm", "peephole"]
Attention = Literal["none", "soft", "multiplicative", "multi_head", "hard", "spatial", "adaptive", "top_down"]
ImageInput = Literal["none", "first_word", "initial_state", "every_step"]
ConceptUse = Literal["none", "attend", "copy"]

CELLS_WITH_MEMORY = ("lstm", "peephole")
"""Cells with a memory c beside h."""


@dataclass(frozen=True)
class DecoderConfig:
    """Configuration of a decoder.

    Attributes:
        cell: Recurrent cell: ``rnn`` (vanilla, tanh), ``gru``, ``lstm``, or ``peephole`` (an LSTM whose gates see c).
        attention: Attention over the grid at every token: ``soft`` is additive (Bahdanau), ``multiplicative`` a scaled
            product (Luong), ``multi_head`` several products, ``hard`` samples one region, ``spatial`` attends after
            the recurrent update instead of before, ``adaptive`` also has a visual sentinel, and ``top_down`` attends
            between two recurrent layers. ``none`` sees the image through ``image_input`` only.
        image_input: Use of the mean feature vector: ``initial_state`` computes the first state from it (Show, Attend
            and Tell); ``first_word`` projects it to a word embedding that precedes the first word (Show and Tell);
            ``every_step`` adds its projection to every update; ``none`` omits it, which without attention is a
            language model.
        embedding_size: Length of a word vector, a row of E.
        hidden_size: Length of the state h.
        attention_size: Dimension of the space in which the state and the regions of the grid are compared.
        heads: Number of heads of ``multi_head`` attention.
        layers: Number of stacked recurrent layers.
        dropout: Dropout rate of word vectors, between layers and before the output, in [0, 1).
        variational_dropout: Whether a sentence has one mask for all its tokens, which is then also applied to h along
            time (Gal and Ghahramani, 2016).
        tied_embedding: Whether E is also the output matrix (Press and Wolf, 2017).
        concepts: Use of words that the image suggests (`captioner.models.decoder.concepts`): ``attend`` attends to
            them, ``copy`` also copies them into the caption.
        concept_size: Dimension of the space in which concepts are compared.
        concept_words: Number of words that can be concepts; 0 without concepts.
        concept_classes: Number of classes of the pretrained CNN that are kept; 0 for none.
        members: Number of decoders of this configuration that are trained side by side on one CNN and decode as an
            ensemble.
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
                f"decoder.attention_size {self.attention_size} is not a multiple of decoder.heads {self.heads}"
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
                "regions for each; train them separately, and merge them into an ensemble"
            )
