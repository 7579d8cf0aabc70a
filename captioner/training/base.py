"""Base class of the training modules: optimizer, seeds and checkpoint content."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from captioner import __version__
from captioner.checkpoint import METADATA_KEY, Checkpoint, refuse_another
from captioner.checkpoint.schema import Config
from captioner.errors import CaptionerError
from captioner.text.vocabulary import Vocabulary
from captioner.training.optim import make_optimizer, refuse_another_optimizer
from captioner.training.options import OptimizerOptions
from captioner.utils.seeding import batch_seed, run_seed


class Describable(Protocol):
    """Interface of the training data."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The words of the training captions or text."""

    def describe(self) -> dict[str, Any]:
        """Describe the data in plain values, for the model card."""


class TrainingModule(lightning.LightningModule, ABC):
    """Base LightningModule of models with a vocabulary.

    The constructor only stores options; `configure_model` reads files and builds the network.

    Args:
        data: The data of the run.
        optimizer: Options of the optimizer.
    """

    def __init__(self, data: Describable, optimizer: OptimizerOptions) -> None:
        super().__init__()
        self.data = data
        self.optimizer = optimizer
        self._is_configured = False

    @abstractmethod
    def build(self) -> None:
        """Build the network and read the files it needs."""

    @property
    @abstractmethod
    def config(self) -> Config:
        """The network's configuration."""

    @property
    @abstractmethod
    def parts(self) -> list[tuple[nn.Module, float]]:
        """The trained modules with their peak learning rates."""

    @property
    def provenance(self) -> dict[str, Any]:
        """Further entries of the model card about training."""
        return {}

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary, which is the data's."""
        return self.data.vocabulary

    def configure_model(self) -> None:
        """Build the network once, on the CPU, so that a seed gives the same initial weights on every device."""
        if not self._is_configured:
            with torch.device("cpu"):
                self.build()
            self._is_configured = True

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build AdamW with a learning rate per part, and the schedule: linear warm-up, then cosine decay to 0."""
        return make_optimizer(self.parts, self.optimizer, int(self.trainer.estimated_stepping_batches))

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:  # noqa: ANN401 (each model has its own)
        """Seed dropout by the batch, so that a resumed run equals an uninterrupted one."""
        torch.manual_seed(self.batch_seed(batch_index))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add configuration, vocabulary and model card to a checkpoint."""
        checkpoint[METADATA_KEY] = self._content(self._model_card()).header()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to resume a run with other options or another vocabulary, whose ids would differ."""
        refuse_another(checkpoint, self._content({}))
        refuse_another_optimizer(checkpoint, self.parts, self.optimizer.weight_decay)

    def batch_seed(self, batch_index: int) -> int:
        """The seed of a batch in this process, unique within an epoch."""
        return batch_seed(self.current_epoch, batch_index * self.trainer.world_size + self.trainer.global_rank)

    def validation_scores(self) -> dict[str, float]:
        """The latest validation scores, rounded for the model card."""
        return {
            name.removeprefix("val/"): round(float(value), 4)
            for name, value in self.trainer.callback_metrics.items()
            if name.startswith("val/")
        }

    def divergence(self, loss: Tensor, batch_index: int, cure: str) -> CaptionerError:
        """The error that ends a run whose loss is not finite."""
        return CaptionerError(f"the loss of batch {batch_index} of epoch {self.current_epoch} is {loss.item()}; {cure}")

    def _content(self, card: dict[str, Any]) -> Checkpoint:
        words = self.vocabulary
        return Checkpoint(self.config, words.words, {}, card, tokenizer=words.tokenizer)

    def _model_card(self) -> dict[str, Any]:
        return {
            "made with": f"captioner {__version__}, torch {torch.__version__}",
            "data": self.data.describe(),
            "training": {
                **self.provenance,
                "epochs": self.current_epoch + 1,
                "steps": self.global_step,
                "seed": run_seed(),
            },
            "validation scores": self.validation_scores(),
        }
