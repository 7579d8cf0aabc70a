"""How a captioner learns: loss, optimiser and validation as a LightningModule."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from captioner import __version__
from captioner.averaging import moving_average
from captioner.checkpoint import METADATA_KEY, Checkpoint
from captioner.data.dataset import Batch
from captioner.decoder import DecoderConfig, TeacherForced
from captioner.decoding import DecodingOptions, decode
from captioner.embeddings import read_word_vectors
from captioner.encoder import WEIGHTS_HUB, GridEncoder
from captioner.errors import CaptionerError
from captioner.metrics import score
from captioner.model import CaptionerConfig, CaptionModel
from captioner.seeds import batch_seed, run_seed
from captioner.self_critical import make_reward, self_critical_loss
from captioner.validation import Validated
from captioner.vocabulary import Vocabulary, join_words
from captioner.warm_start import warm_start

_IMAGES_NAMED = 8
"""Images of a batch that a message names."""


class CaptioningModule(lightning.LightningModule):
    """Trains encoder, decoder and word embedding together.

    Args:
        vocabulary: The words; linked from the data.
        encoder: Name of the CNN, as `captioner.encoder.GridEncoder` takes it.
        encoder_weights: ``hub``, ``package``, ``none`` or a file.
        encoder_stage: The CNN's last stage that is used; an earlier one gives a finer grid. None uses all.
        train_encoder_from: The CNN's first trained stage, ``all`` for the whole of it, None to keep it frozen.
        image_size: Height and width of the CNN's input, in pixels.
        resize: ``squash`` or ``crop``; see `captioner.images.Transform`.
        decoder: Shape of the decoder.
        start_from: Checkpoint whose weights the model begins with, such as one trained with a frozen CNN; None begins
            anew.
        word_vectors: Text file in GloVe's format that the embedding starts from; None starts it at random.
        learning_rate: Peak learning rate of the decoder (Adam).
        encoder_learning_rate: Peak learning rate of the trained stages of the CNN.
        weight_decay: Decoupled weight decay of matrices; vectors are not decayed.
        warmup_steps: Steps over which the learning rates rise from 0; afterwards they fall to 0 along a cosine.
        label_smoothing: Share of the target probability that is spread over all words, in [0, 1).
        attention_regularization: Weight λ of the doubly stochastic term (Show, Attend and Tell, equation 14).
        self_critical: Weight of self-critical training on CIDEr-D in the loss, in [0, 1]; cross-entropy has the rest.
            For a second phase, with ``start_from``.
        samples: Captions drawn of each image in self-critical training.
        validation_beam_size: Beam for the captions that are scored in validation; 1 is greedy.
        ema: Decay of a moving average of the weights, such as 0.999, in [0, 1); the average is what is validated and
            written for use. 0 keeps none.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        encoder: str = "timm/tf_efficientnet_lite0",
        encoder_weights: str = WEIGHTS_HUB,
        encoder_stage: str | None = None,
        train_encoder_from: str | None = None,
        image_size: int = 224,
        resize: str = "squash",
        decoder: DecoderConfig = DecoderConfig(),  # noqa: B008 (frozen)
        start_from: str | None = None,
        word_vectors: str | None = None,
        learning_rate: float = 1e-3,
        encoder_learning_rate: float = 1e-5,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        label_smoothing: float = 0.0,
        attention_regularization: float = 1.0,
        self_critical: float = 0.0,
        samples: int = 5,
        validation_beam_size: int = 1,
        ema: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= self_critical <= 1:
            raise CaptionerError(f"model.self_critical is {self_critical}; it must be at least 0 and at most 1")
        if samples < 2:
            raise CaptionerError(f"model.samples is {samples}; it must be at least 2, for each to have a rival")
        if not 0 <= label_smoothing < 1:
            raise CaptionerError(f"model.label_smoothing is {label_smoothing}; it must be at least 0 and less than 1")
        self.averaging = [moving_average(ema)] if ema else []
        grid_encoder = GridEncoder(encoder, encoder_weights, encoder_stage)
        grid_encoder.train_from(train_encoder_from)
        config = CaptionerConfig(encoder, encoder_stage, decoder, grid_encoder.default_transform(image_size, resize))
        self.model = CaptionModel(config, len(vocabulary), grid_encoder)
        if start_from is not None:
            warm_start(self.model, vocabulary, start_from)
        if word_vectors is not None:
            vectors = read_word_vectors(Path(word_vectors), vocabulary, decoder.embedding_size)
            with torch.no_grad():
                for id_, vector in vectors.items():
                    self.model.decoder.embedding.weight[id_] = vector
        self.vocabulary = vocabulary
        self.learning_rate = learning_rate
        self.encoder_learning_rate = encoder_learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.label_smoothing = label_smoothing
        self.attention_regularization = attention_regularization
        self.self_critical = self_critical
        self.samples = samples
        self.validation_options = DecodingOptions(beam_size=validation_beam_size)
        self.provenance = {
            "encoder weights": Path(encoder_weights).name,
            "encoder trained": f"from {train_encoder_from}" if train_encoder_from else "no",
            "self-critical": self_critical,
            "moving average": ema,
            "started from": Path(start_from).name if start_from else "nothing",
        }
        self._validated = Validated()

    def configure_callbacks(self) -> list[WeightAveraging]:
        """What the trainer is to do beside."""
        return self.averaging

    def on_fit_start(self) -> None:
        """Counts what rewards are computed from."""
        if self.self_critical > 0:
            self._reward = make_reward(self.trainer.datamodule.train.captions)  # type: ignore[attr-defined]

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        """Seeds dropout by the batch, so that a resumed run goes on as the interrupted one would have."""
        torch.manual_seed(self._seed(batch_index))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """One step of teacher forcing."""
        grid = self._grid(batch)
        outcome = self.model.decoder(grid, batch.captions)
        loss = word_loss(outcome, self.label_smoothing)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.places))
        if outcome.attention is not None and self.attention_regularization > 0:
            penalty = attention_penalty(outcome.attention)
            self.log("train/attention_penalty", penalty, batch_size=len(batch.places))
            loss = loss + self.attention_regularization * penalty
        if self.self_critical > 0:
            seed, places = self._seed(batch_index), batch.places.tolist()
            critical, reward = self_critical_loss(self.model.decoder, grid, places, self._reward, self.samples, seed)
            self.log("train/reward", reward, prog_bar=True, batch_size=len(places))
            loss = (1 - self.self_critical) * loss + self.self_critical * critical
        if not torch.isfinite(loss):
            records = self.trainer.datamodule.train.records  # type: ignore[attr-defined]
            places = batch.places.tolist()
            images = ", ".join(str(records[place].image) for place in places[:_IMAGES_NAMED])
            more = f" and {len(places) - _IMAGES_NAMED} more" if len(places) > _IMAGES_NAMED else ""
            raise CaptionerError(
                f"the loss of batch {batch_index} of epoch {self.current_epoch} is {loss.item()}; lower "
                f"model.learning_rate or trainer.gradient_clip_val, or look at its images: {images}{more}"
            )
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Loss under teacher forcing, and captions that are generated, never teacher-forced."""
        grid = self._grid(batch)
        outcome = self.model.decoder(grid, batch.captions)
        words = len(outcome.targets)
        hypotheses = decode(self.model.decoder, grid, self.validation_options)
        captions = [join_words(self.vocabulary.decode(each[0].words)) for each in hypotheses]
        generated = dict(zip(batch.places.tolist(), captions, strict=True))
        self._validated += Validated(generated, float(word_loss(outcome)) * words, words)

    def on_validation_epoch_end(self) -> None:
        """Scores the generated captions against all references; of several processes, each scores those of all."""
        whole = self._validated.of_all_processes()
        self._validated = Validated()
        loss = torch.tensor(whole.loss / whole.words)
        self.log("val/loss", loss)
        self.log("val/perplexity", loss.exp())
        records = self.trainer.datamodule.val.records  # type: ignore[attr-defined]
        references = {place: records[place].captions for place in whole.generated}
        for name, value in score(whole.generated, references).items():
            self.log(f"val/{name}", value, prog_bar=name == "CIDEr")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with decoupled weight decay, each part at its own rate; warm-up, then a cosine to 0."""
        groups = []
        for part, rate in ((self.model.decoder, self.learning_rate), (self.model.encoder, self.encoder_learning_rate)):
            trained = [parameter for parameter in part.parameters() if parameter.requires_grad]
            for is_matrix, decay in ((True, self.weight_decay), (False, 0.0)):
                members = [parameter for parameter in trained if (parameter.ndim > 1) == is_matrix]
                if members:
                    groups.append({"params": members, "lr": rate, "weight_decay": decay})
        optimizer = torch.optim.AdamW(groups)
        total = int(self.trainer.estimated_stepping_batches)
        schedule = LambdaLR(optimizer, lambda step: warmup_cosine(step, self.warmup_steps, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what makes the file a captioner: configuration, words, card."""
        checkpoint[METADATA_KEY] = Checkpoint(self.model.config, self.vocabulary.words, {}, self._card()).header()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses to resume from a file with other words: every id would mean something else."""
        header = Checkpoint(self.model.config, self.vocabulary.words, {}, {}).header()
        if METADATA_KEY not in checkpoint:
            raise CaptionerError("the checkpoint to resume from was not written by captioner train")

        old, new = json.loads(checkpoint[METADATA_KEY]), json.loads(header)
        if old["words"] != new["words"]:
            raise CaptionerError(
                f"the checkpoint to resume from has {len(old['words'])} words, the data's vocabulary "
                f"{len(new['words'])}, or in another order; resume with the data and min_count it was trained with"
            )
        if old["config"] != new["config"]:
            raise CaptionerError("the checkpoint to resume from has another configuration of the model; use its own")
        if ("averaging_state" in checkpoint) != bool(self.averaging):
            kept = "a" if "averaging_state" in checkpoint else "no"
            raise CaptionerError(f"the checkpoint to resume from has {kept} moving average; use its own model.ema")

    def _seed(self, batch_index: int) -> int:
        """The seed of a batch of this process: of all batches of an epoch, each has another."""
        return batch_seed(self.current_epoch, batch_index * self.trainer.world_size + self.trainer.global_rank)

    def _grid(self, batch: Batch) -> Tensor:
        if batch.images.dtype == torch.uint8:
            grid: Tensor = self.model.encoder(self.model.config.transform.normalise(batch.images))
            return grid
        return batch.images.float()

    def _card(self) -> dict[str, Any]:
        metrics = self.trainer.callback_metrics
        return {
            "made with": f"captioner {__version__}, torch {torch.__version__}",
            "data": self.trainer.datamodule.describe(),  # type: ignore[attr-defined]
            "training": {
                **self.provenance,
                "epochs": self.current_epoch + 1,
                "steps": self.global_step,
                "seed": run_seed(),
            },
            "validation scores": {
                name.removeprefix("val/"): round(float(value), 4)
                for name, value in metrics.items()
                if name.startswith("val/")
            },
        }


def word_loss(outcome: TeacherForced, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy a real word, in nats; its exponential is the perplexity.

    Args:
        outcome: What the decoder made of known captions.
        label_smoothing: Share of the target probability that is spread over all words.
    """
    return cross_entropy(outcome.logits.float(), outcome.targets, label_smoothing=label_smoothing)


def attention_penalty(attention: Tensor) -> Tensor:
    """How unevenly captions look at their picture: the mean over sentences and cells of (1 - Σ_t p_ti)².

    The doubly stochastic regulariser of Show, Attend and Tell, equation 14, as a mean over the cells where the paper
    has a sum, so that its weight does not depend on the grid.

    Args:
        attention: Weights, shape (sentences, steps, cells), 0 after a sentence's end. A sentence with no words (padding
            of the batch) does not count.
    """
    total = attention.sum(dim=1)  # (sentences, cells)
    real = total.sum(dim=1) > 0
    return (1 - total[real]).square().mean()


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Share of the peak learning rate at a step: linear from 0 over ``warmup`` steps, then a half cosine to 0."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
