"""What the training of every model has: its optimizer, its seeds, and what its checkpoints hold."""

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
    """Data that a model is trained on."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The words of the training captions or text."""

    def describe(self) -> dict[str, Any]:
        """The data in plain values, for the checkpoint's card."""


class TrainingModule(lightning.LightningModule, ABC):
    """Trains a network of words.

    The constructor keeps options; files are read when the network is built, by `configure_model`.

    Args:
        data: The data of the run.
        optimizer: How far a step changes the weights.
    """

    def __init__(self, data: Describable, optimizer: OptimizerOptions) -> None:
        super().__init__()
        self.data = data
        self.optimizer = optimizer
        self._is_configured = False

    @abstractmethod
    def build(self) -> None:
        """Make the network and all that is read from files."""

    @property
    @abstractmethod
    def config(self) -> Config:
        """The shape of the network."""

    @property
    @abstractmethod
    def parts(self) -> list[tuple[nn.Module, float]]:
        """What is trained, and the peak learning rate of each."""

    @property
    def provenance(self) -> dict[str, Any]:
        """What else the checkpoint's card tells of the training."""
        return {}

    @property
    def vocabulary(self) -> Vocabulary:
        """The words, those of the data."""
        return self.data.vocabulary

    def configure_model(self) -> None:
        """Build the network, once, on the CPU: with one seed it begins with the same weights on every device."""
        if not self._is_configured:
            with torch.device("cpu"):
                self.build()
            self._is_configured = True

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with decoupled weight decay, each part at its own rate; warm-up, then a cosine to 0."""
        return make_optimizer(self.parts, self.optimizer, int(self.trainer.estimated_stepping_batches))

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:  # noqa: ANN401 (each model has its own)
        """Seed dropout by the batch, so that a resumed run equals an uninterrupted one."""
        torch.manual_seed(self.batch_seed(batch_index))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what makes the file a model: configuration, words, card."""
        checkpoint[METADATA_KEY] = self._content(self._model_card()).header()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to resume what was trained otherwise; with other words, every id would mean something else."""
        refuse_another(checkpoint, self._content({}))
        refuse_another_optimizer(checkpoint, self.parts, self.optimizer.weight_decay)

    def batch_seed(self, batch_index: int) -> int:
        """The seed of a batch of this process: of all batches of an epoch, each has another."""
        return batch_seed(self.current_epoch, batch_index * self.trainer.world_size + self.trainer.global_rank)

    def validation_scores(self) -> dict[str, float]:
        """The newest scores of validation, rounded for the card."""
        return {
            name.removeprefix("val/"): round(float(value), 4)
            for name, value in self.trainer.callback_metrics.items()
            if name.startswith("val/")
        }

    def divergence(self, loss: Tensor, batch_index: int, cure: str) -> CaptionerError:
        """What ends a run whose loss is not finite: there is nothing to learn from it any more."""
        return CaptionerError(f"the loss of batch {batch_index} of epoch {self.current_epoch} is {loss.item()}; {cure}")

    def _content(self, card: dict[str, Any]) -> Checkpoint:
        return Checkpoint(self.config, self.vocabulary.words, {}, card)

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
