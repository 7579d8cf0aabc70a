"""How a language model learns: truncated back-propagation through time, as a LightningModule."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.functional import cross_entropy

from captioner import __version__
from captioner.checkpoint import METADATA_KEY, Checkpoint, refuse_another
from captioner.errors import CaptionerError
from captioner.models.decoder import DecoderConfig, State
from captioner.models.language_model import BLIND, LanguageConfig, LanguageModel
from captioner.text.vocabulary import START, Unit, Vocabulary
from captioner.training.noising import drop_tokens
from captioner.training.optim import make_optimizer, refuse_another_optimizer
from captioner.utils.seeding import batch_seed, run_seed

CARRIED = "carried"
"""What the state at the end of the last chunk is called in a Lightning checkpoint."""


class LanguageModule(lightning.LightningModule):
    """Trains a decoder and its word embedding on text.

    Gradients reach back to the start of a chunk; the state is carried on from chunk to chunk (Mikolov et al., 2010).

    Args:
        vocabulary: The words; linked from the data.
        unit: Words or characters; linked from the data.
        decoder: Shape of the decoder, without attention and image.
        learning_rate: Peak learning rate (Adam).
        weight_decay: Decoupled weight decay of matrices; vectors are not decayed.
        warmup_steps: Steps over which the learning rate rises from 0; afterwards it falls to 0 along a cosine.
        word_dropout: Share of the words read that are replaced by UNKNOWN, in [0, 1].
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        unit: Unit = "words",
        decoder: DecoderConfig = BLIND,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        word_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= word_dropout <= 1:
            raise CaptionerError(f"model.word_dropout is {word_dropout}; it must be at least 0 and at most 1")
        self.model = LanguageModel(LanguageConfig(decoder, unit), len(vocabulary))
        self.vocabulary = vocabulary
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.word_dropout = word_dropout
        self._carried: State | None = None
        self._losses: list[tuple[float, int]] = []

    def on_train_batch_start(self, batch: Tensor, batch_index: int) -> None:
        """Seeds dropout by the batch, so that a resumed run goes on as the interrupted one would have."""
        torch.manual_seed(batch_seed(self.current_epoch, batch_index))

    def training_step(self, batch: Tensor, batch_index: int) -> Tensor:
        """Reads one chunk, from the state at the end of the one before."""
        loss, words = self._read(batch, batch_index)
        self.log("train/loss", loss, prog_bar=True, batch_size=words)
        if not torch.isfinite(loss):
            raise CaptionerError(
                f"the loss of batch {batch_index} of epoch {self.current_epoch} is {loss.item()}; lower "
                "model.learning_rate or set trainer.gradient_clip_val"
            )
        return loss

    def on_validation_epoch_start(self) -> None:
        """Sets aside what training carries; held-out text begins anew."""
        self._aside = self._carried

    def validation_step(self, batch: Tensor, batch_index: int) -> None:
        """Reads one held-out chunk."""
        loss, words = self._read(batch, batch_index)
        self._losses.append((float(loss), words))

    def on_validation_epoch_end(self) -> None:
        """Perplexity: the exponential of the mean loss a word, END included."""
        loss = sum(loss * words for loss, words in self._losses) / sum(words for _, words in self._losses)
        self.log("val/loss", loss)
        self.log("val/perplexity", torch.tensor(loss).exp(), prog_bar=True)
        self._losses, self._carried = [], self._aside

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with decoupled weight decay; warm-up, then a cosine to 0."""
        total = int(self.trainer.estimated_stepping_batches)
        return make_optimizer(self._parts, self.weight_decay, self.warmup_steps, total)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what makes the file a language model, and the state that the next chunk begins with."""
        checkpoint[METADATA_KEY] = self._content(self._model_card()).header()
        checkpoint[CARRIED] = None if self._carried is None else list(self._carried.recurrent)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes up the state; refuses a file with other words, of another shape, or trained otherwise."""
        refuse_another(checkpoint, self._content({}))
        refuse_another_optimizer(checkpoint, self._parts, self.weight_decay)
        carried = checkpoint.get(CARRIED)
        start = self.model.decoder.start(self.model.nothing(1))
        self._carried = None if carried is None else start._replace(recurrent=tuple(carried))

    @property
    def _parts(self) -> list[tuple[torch.nn.Module, float]]:
        """What is trained, and its peak learning rate."""
        return [(self.model, self.learning_rate)]

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
        if self.training and self.word_dropout > 0:
            words = drop_tokens(words, self.word_dropout)
        logits, state = decoder.unroll(words, state, grid)
        self._carried = state._replace(recurrent=tuple(part.detach() for part in state.recurrent))
        count = int((targets != START).sum())
        total = cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=START, reduction="sum")
        return total / max(1, count), count  # one track can have nothing but START to read

    def _content(self, card: dict[str, Any]) -> Checkpoint:
        return Checkpoint(self.model.config, self.vocabulary.words, {}, card)

    def _model_card(self) -> dict[str, Any]:
        perplexity = self.trainer.callback_metrics.get("val/perplexity")
        return {
            "made with": f"captioner {__version__}, torch {torch.__version__}",
            "data": self.trainer.datamodule.describe(),  # type: ignore[attr-defined]
            "training": {"epochs": self.current_epoch + 1, "steps": self.global_step, "seed": run_seed()},
            "validation scores": {} if perplexity is None else {"perplexity": round(float(perplexity), 3)},
        }
