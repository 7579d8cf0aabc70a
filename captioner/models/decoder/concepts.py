"""Concepts: words predicted from the image, which the decoder attends to and may copy into the caption.

A linear classifier over the mean feature vector predicts words of the image's captions (word detectors: Fang et al.,
2015). A second one predicts the classes of the pretrained CNN, each of which stands for an everyday word. The most
likely words become a small memory in addition to the grid. At every step the decoder attends to it (semantic attention:
You et al., 2016), and with ``copy`` a gate interpolates the next word's distribution with the attention weights
(pointer networks: Vinyals et al., 2015; See et al., 2017; for novel objects: Yao et al., 2017), so that words outside
the training captions can be generated.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from captioner.errors import CaptionerError
from captioner.models.decoder.config import DecoderConfig
from captioner.models.decoder.ops import Linear
from captioner.text.vocabulary import PAD

CANDIDATES = 12
"""Number of concepts that the decoder attends to."""

_LEAST = 1e-4
"""Margin of concept probabilities from 0 and 1, where logits are infinite."""

_MASKED = 0.15
"""Share of the candidates that only copying can generate in a training step, so that the gate learns to copy."""


class Candidates(NamedTuple):
    """The K most likely concepts of each image.

    Attributes:
        ids: Their words, shape (images, K).
        scores: Logits of their probabilities, shape (images, K).
        keys: Attention keys, shape (images, K, concept_size).
        values: Attention values, shape (images, K, hidden_size).
    """

    ids: Tensor
    scores: Tensor
    keys: Tensor
    values: Tensor

    def select(self, images: Tensor) -> Candidates:
        """Select images by index, such as the image of each hypothesis."""
        return Candidates(*(part.index_select(0, images) for part in self))


class Concepts(nn.Module):
    """The classifiers, the attention over the most likely concepts, and the copying gate.

    Args:
        config: The decoder's configuration; ``concept_words`` and ``concept_classes`` are the sizes.
        channels: Length of the encoder's feature vectors.

    Attributes:
        word_ids: The word of each concept, shape (concepts,); concept 0 is PAD and never a candidate, for classes that
            stand for no everyday word.
        class_words: The concept that each class stands for, shape (classes,).
    """

    def __init__(self, config: DecoderConfig, channels: int) -> None:
        super().__init__()
        if config.concept_words < 1:
            raise CaptionerError(f"decoder.concepts {config.concepts} needs words; set data.concepts to true")
        self.copies = config.concepts == "copy"
        self.words = Linear(channels, config.concept_words)
        self.classes = Linear(channels, config.concept_classes) if config.concept_classes else None
        self.word_ids: Tensor
        self.class_words: Tensor
        self.register_buffer("word_ids", torch.full((config.concept_words,), PAD))
        self.register_buffer("class_words", torch.zeros(config.concept_classes, dtype=torch.long))
        size = config.concept_size
        self.vectors = nn.Parameter(torch.empty(config.concept_words, size))
        self.query = Linear(config.hidden_size, size)
        self.key = Linear(size, size)
        self.value = Linear(size, config.hidden_size, bias=False)
        self.trust = nn.Parameter(torch.ones(()))
        self.gate = Linear(2 * config.hidden_size + 1, 1) if self.copies else None
        nn.init.normal_(self.vectors, std=1 / math.sqrt(size))
        nn.init.zeros_(self.value.weight)
        nn.init.constant_(self.words.bias, -4.0)
        if self.gate is not None:
            nn.init.constant_(self.gate.bias, -3.0)

    def classify(self, grid: Tensor, classifier: Linear) -> Tensor:
        """Apply a classifier to the mean feature vector of each image.

        Args:
            grid: Feature vectors, shape (images, regions, channels).
            classifier: `words` or `classes`.

        Returns:
            Logits, shape (images, concepts) or (images, classes).
        """
        logits: Tensor = classifier(grid.to(classifier.weight.dtype).mean(dim=1))
        return logits

    def probabilities(self, grid: Tensor) -> Tensor:
        """Compute the probability of each concept: that the image shows its word or one of its classes.

        Args:
            grid: Feature vectors, shape (images, regions, channels).

        Returns:
            Shape (images, concepts).
        """
        words = self.classify(grid, self.words).to(self.words.weight.dtype).sigmoid()
        if self.classes is not None:
            named = self.classify(grid, self.classes).to(words.dtype).softmax(-1)
            summed = torch.zeros_like(words).index_add_(1, self.class_words, named)
            words = 1 - (1 - words) * (1 - summed.clamp(max=1))
        return words.index_fill(1, torch.zeros(1, dtype=torch.long, device=words.device), 0.0)

    def start(self, grid: Tensor) -> Candidates:
        """Find the most likely concepts of images, from feature vectors of shape (images, regions, channels).

        No gradient flows from the decoder to the classifiers, which are trained on `classify`.
        """
        with torch.no_grad():
            probabilities = self.probabilities(grid)
            best, which = probabilities.topk(min(CANDIDATES, probabilities.shape[1]), dim=1)
            scores = best.clamp(_LEAST, 1 - _LEAST).logit()
        vectors = self.vectors[which]
        return Candidates(self.word_ids[which], scores, self.key(vectors), self.value(vectors))

    def attend(self, output: Tensor, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Attend to the concepts.

        Args:
            output: The core's outputs, shape (hypotheses, hidden_size).
            candidates: The candidates of each hypothesis's image.

        Returns:
            a_k = softmax(q·k_k / √d + β s_k), shape (hypotheses, K); and Σ a_k v_k, shaped as the outputs.
        """
        precise = self.query.weight.dtype  # a decoder in bfloat16 keeps its concepts in float32, and autocast does not
        query = self.query(output.to(precise))
        products = (candidates.keys @ query.unsqueeze(2)).squeeze(2).to(precise) / math.sqrt(query.shape[1])
        weights = (products + self.trust * candidates.scores).softmax(-1)
        mixed = (weights.unsqueeze(1).to(candidates.values.dtype) @ candidates.values).squeeze(1)
        return weights, mixed.to(output.dtype)

    def copy(self, logits: Tensor, output: Tensor, mixed: Tensor, weights: Tensor, candidates: Candidates) -> Tensor:
        """Interpolate the next word's distribution with the attention over concepts.

        Args:
            logits: Logits over the vocabulary, shape (hypotheses, vocabulary).
            output: The core's outputs, shape (hypotheses, hidden_size).
            mixed: The mixed values from `attend`.
            weights: The weights from `attend`.
            candidates: The candidates of each hypothesis's image.

        Returns:
            log((1 - g) p + g Σ a_k [the word is that of concept k]), shaped as the logits.
        """
        assert self.gate is not None
        strongest = (weights * candidates.scores).sum(1, keepdim=True)
        precise = self.gate.weight.dtype
        gate = self.gate(torch.cat([output.to(precise), mixed.to(precise), strongest], dim=1)).to(precise)
        generated = logits.to(precise).log_softmax(-1)
        own = generated.gather(1, candidates.ids)
        if self.training:
            own = own.masked_fill(torch.rand_like(own) < _MASKED, -math.inf)
        kept = nn.functional.logsigmoid(-gate)
        copied = nn.functional.logsigmoid(gate) + weights.clamp(min=1e-9).log()
        return (generated + kept).scatter(1, candidates.ids, torch.logaddexp(own + kept, copied))
