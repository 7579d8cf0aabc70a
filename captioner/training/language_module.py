"""How a language model learns: truncated back-propagation through time, as a LightningModule."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from captioner.models.decoder import DecoderConfig, State
from captioner.models.language_model import BLIND, LanguageConfig, LanguageModel
from captioner.text.vocabulary import START
from captioner.training.base import TrainingModule
from captioner.training.noising import drop_tokens
from captioner.training.options import OptimizerOptions, WordNoiseOptions
from captioner.training.text_datamodule import TextData

CARRIED = "carried"
"""What the state at the end of the last chunk is called in a Lightning checkpoint."""


class LanguageModule(TrainingModule):
    """Trains a decoder and its word embedding on text.

    Gradients reach back to the start of a chunk; the state is carried on from chunk to chunk (Mikolov et al., 2010).

    Args:
        data: The data of the run.
        decoder: Shape of the decoder, without attention and image.
        optimizer: How far a step changes the weights.
        noise: What is withheld from the language model while it learns.
    """

    data: TextData
    model: LanguageModel

    def __init__(
        self,
        data: TextData,
        decoder: DecoderConfig = BLIND,
        optimizer: OptimizerOptions = OptimizerOptions(),  # noqa: B008 (frozen, like the next)
        noise: WordNoiseOptions = WordNoiseOptions(),  # noqa: B008
    ) -> None:
        super().__init__(data, optimizer)
        self.decoder = decoder
        self.noise = noise
        self._carried: State | None = None
        self._losses: list[tuple[float, int]] = []

    def build(self) -> None:
        """Make the network; what it begins with is left to chance."""
        self.model = LanguageModel(self.config, len(self.vocabulary))

    @property
    def config(self) -> LanguageConfig:
        """The shape of the network."""
        return LanguageConfig(self.decoder, self.data.unit)

    @property
    def parts(self) -> list[tuple[nn.Module, float]]:
        """What is trained, and its peak learning rate."""
        return [(self.model, self.optimizer.learning_rate)]

    def training_step(self, batch: Tensor, batch_index: int) -> Tensor:
        """Read one chunk, from the state at the end of the one before."""
        loss, words = self._read(batch, batch_index)
        self.log("train/loss", loss, prog_bar=True, batch_size=words)
        if not torch.isfinite(loss):
            cure = "lower model.optimizer.learning_rate or set trainer.gradient_clip_val"
            raise self.divergence(loss, batch_index, cure)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Set aside what training carries; held-out text begins anew."""
        self._aside = self._carried

    def validation_step(self, batch: Tensor, batch_index: int) -> None:
        """Read one held-out chunk."""
        loss, words = self._read(batch, batch_index)
        self._losses.append((float(loss), words))

    def on_validation_epoch_end(self) -> None:
        """Perplexity: the exponential of the mean loss a word, END included."""
        loss = sum(loss * words for loss, words in self._losses) / sum(words for _, words in self._losses)
        self.log("val/loss", loss)
        self.log("val/perplexity", torch.tensor(loss).exp(), prog_bar=True)
        self._losses, self._carried = [], self._aside

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what makes the file a language model, and the state that the next chunk begins with."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[CARRIED] = None if self._carried is None else list(self._carried.recurrent)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the state; refuse a file with other words, of another shape, or trained otherwise."""
        super().on_load_checkpoint(checkpoint)
        carried = checkpoint.get(CARRIED)
        start = self.model.decoder.start(self.model.nothing(1))
        self._carried = None if carried is None else start._replace(recurrent=tuple(carried))

    def validation_scores(self) -> dict[str, float]:
        """The newest perplexity, rounded for the card; none before the first validation."""
        perplexity = self.trainer.callback_metrics.get("val/perplexity")
        return {} if perplexity is None else {"perplexity": round(float(perplexity), 3)}

    def _read(self, batch: Tensor, batch_index: int) -> tuple[Tensor, int]:
        """The mean loss a word of a chunk, shape (tracks, steps + 1), and the number of words.

        START follows every END and is no news, so it does not count.
        """
        decoder, grid = self.model.decoder, self.model.nothing(len(batch))
        words, targets = batch[:, :-1], batch[:, 1:]
        if batch_index > 0 and self._carried is not None:
            # What a checkpoint held is on the CPU.
            state = self._carried._replace(recurrent=tuple(part.to(batch.device) for part in self._carried.recurrent))
        else:
            state = self.model.start(grid)
        if self.training and self.noise.word_dropout > 0:
            words = drop_tokens(words, self.noise.word_dropout)
        logits, state = decoder.unroll(words, state, grid)
        self._carried = state._replace(recurrent=tuple(part.detach() for part in state.recurrent))
        count = int((targets != START).sum())
        total = cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=START, reduction="sum")
        return total / max(1, count), count  # one track can have nothing but START to read
