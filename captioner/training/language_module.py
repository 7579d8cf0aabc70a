"""LightningModule for language models: truncated back-propagation through time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from captioner.models.decoder import DecoderConfig, State
from captioner.models.language_model import BLIND, LanguageConfig, LanguageModel, total_loss
from captioner.training.base import TrainingModule
from captioner.training.noising import drop_tokens
from captioner.training.options import OptimizerOptions, WordNoiseOptions
from captioner.training.text_datamodule import TextData

CARRIED = "carried"
"""Key of the last chunk's final state in a Lightning checkpoint."""


class LanguageModule(TrainingModule):
    """Trains a decoder and its word embedding on text.

    Gradients reach back to the start of a chunk; the state is carried from chunk to chunk (Mikolov et al., 2010).

    Args:
        data: The data of the run.
        decoder: Configuration of the decoder, without attention and image.
        optimizer: Options of the optimizer.
        noise: Noise on the inputs.
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
        """Build the network with random initial weights."""
        self.model = LanguageModel(self.config, len(self.vocabulary))

    @property
    def config(self) -> LanguageConfig:
        """The network's configuration."""
        return LanguageConfig(self.decoder, self.data.unit)

    @property
    def parts(self) -> list[tuple[nn.Module, float]]:
        """The trained module with its peak learning rate."""
        return [(self.model, self.optimizer.learning_rate)]

    def training_step(self, batch: Tensor, batch_index: int) -> Tensor:
        """Compute the loss of a chunk, starting from the previous chunk's final state."""
        loss, words = self._read(batch, batch_index)
        self.log("train/loss", loss, prog_bar=True, batch_size=words)
        if not torch.isfinite(loss):
            cure = "lower model.optimizer.learning_rate or set trainer.gradient_clip_val"
            raise self.divergence(loss, batch_index, cure)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Set the training state aside; held-out text starts from the initial state."""
        self._aside = self._carried

    def validation_step(self, batch: Tensor, batch_index: int) -> None:
        """Compute the loss of a held-out chunk."""
        loss, words = self._read(batch, batch_index)
        self._losses.append((float(loss), words))

    def on_validation_epoch_end(self) -> None:
        """Perplexity: the exponential of the mean loss per word, END included."""
        loss = sum(loss * words for loss, words in self._losses) / sum(words for _, words in self._losses)
        self.log("val/loss", loss)
        self.log("val/perplexity", torch.tensor(loss).exp(), prog_bar=True)
        self._losses, self._carried = [], self._aside

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add configuration, vocabulary, model card and the state carried to the next chunk."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[CARRIED] = None if self._carried is None else list(self._carried.recurrent)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the carried state; refuse another vocabulary, shape or other options."""
        super().on_load_checkpoint(checkpoint)
        carried = checkpoint.get(CARRIED)
        start = self.model.decoder.start(self.model.nothing(1))
        self._carried = None if carried is None else start._replace(recurrent=tuple(carried))

    def validation_scores(self) -> dict[str, float]:
        """The latest perplexity, rounded for the model card; empty before the first validation."""
        perplexity = self.trainer.callback_metrics.get("val/perplexity")
        return {} if perplexity is None else {"perplexity": round(float(perplexity), 3)}

    def _read(self, batch: Tensor, batch_index: int) -> tuple[Tensor, int]:
        """The mean loss per word of a chunk, shape (tracks, steps + 1), and the number of words."""
        decoder, grid = self.model.decoder, self.model.nothing(len(batch))
        words, targets = batch[:, :-1], batch[:, 1:]
        if batch_index > 0 and self._carried is not None:
            # A restored state is on the CPU.
            state = self._carried._replace(recurrent=tuple(part.to(batch.device) for part in self._carried.recurrent))
        else:
            state = self.model.start(grid)
        if self.training and self.noise.word_dropout > 0:
            words = drop_tokens(words, self.noise.word_dropout)
        logits, state = decoder.unroll(words, state, grid)
        self._carried = state._replace(recurrent=tuple(part.detach() for part in state.recurrent))
        total, count = total_loss(logits, targets)
        return total / max(1, count), count  # a chunk may have no target except START
