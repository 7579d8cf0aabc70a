"""How a captioner learns: loss, optimiser and validation as a LightningModule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from captioner import __version__
from captioner.checkpoint import METADATA_KEY, Checkpoint, refuse_another
from captioner.data.dataset import Batch
from captioner.decoding import DecodingOptions, decode
from captioner.errors import CaptionerError
from captioner.metrics import score
from captioner.models.backbones import WEIGHTS_HUB
from captioner.models.captioner import CaptionerConfig, CaptionModel
from captioner.models.decoder import DecoderConfig, TeacherForced
from captioner.models.decoder.ops import drop_channels
from captioner.models.encoder import GridEncoder
from captioner.text.vocabulary import Vocabulary, join_words
from captioner.training.distillation import Teachers
from captioner.training.distributed import Validated
from captioner.training.losses import attention_penalty, distillation_loss, location_loss, word_loss
from captioner.training.noising import drop_tokens, sample_tokens
from captioner.training.optim import make_optimizer, moving_average, refuse_another_optimizer
from captioner.training.self_critical import make_reward, self_critical_loss
from captioner.training.warm_start import Part, read_word_vectors, warm_start, warm_start_members
from captioner.utils.seeding import batch_seed, run_seed

BASELINE_RATE = 0.1
"""Share of a batch's reward in the baseline of hard attention (Show, Attend and Tell, equation 11)."""

_IMAGES_NAMED = 8
"""Images of a batch that a message names."""


class CaptioningModule(lightning.LightningModule):
    """Trains encoder, decoder and word embedding together.

    Args:
        vocabulary: The words; linked from the data.
        encoder: Name of the CNN, as `captioner.models.encoder.GridEncoder` takes it.
        encoder_weights: ``hub``, ``package``, ``none`` or a file.
        encoder_stage: The CNN's last stage that is used; an earlier one gives a finer grid. None uses all.
        feature_size: Length to which a linear map brings the CNN's feature vectors, its stage ``projection``, that has
            to be trained or taken from a checkpoint. None leaves them as they are.
        train_encoder_from: The CNN's first trained stage, ``all`` for the whole of it, None to keep it frozen.
        image_size: Height and width of the CNN's input, in pixels.
        resize: ``squash`` or ``crop``; see `captioner.data.transforms.Transform`.
        decoder: Shape of the decoder.
        start_from: Checkpoint whose weights the model begins with, such as one trained with a frozen CNN; a list of one
            for each member of the decoder, the CNN of the first; None begins anew.
        start_part: What of it is taken: ``all``, or ``encoder``, to train a decoder anew on a CNN that was tuned.
        word_vectors: Text file in GloVe's format that the embedding starts from; None starts it at random.
        learning_rate: Peak learning rate of the decoder (Adam).
        encoder_learning_rate: Peak learning rate of the trained stages of the CNN.
        weight_decay: Decoupled weight decay of matrices; vectors are not decayed.
        warmup_steps: Steps over which the learning rates rise from 0; afterwards they fall to 0 along a cosine.
        label_smoothing: Share of the target probability that is spread over all words, in [0, 1).
        attention_regularization: Weight λ of the doubly stochastic term (Show, Attend and Tell, equation 14).
        location_reward: Weight of learning where to look by reward, for hard attention.
        location_entropy: Weight of the entropy of where it looks, within that.
        feature_dropout: Share of the grid's channels that a step leaves out, in [0, 1).
        word_dropout: Share of the words read that are replaced by UNKNOWN, in [0, 1].
        scheduled_sampling: Share of the words read that are the decoder's own at the end of training, in [0, 1]; it
            rises from 0 along a line.
        self_critical: Weight of self-critical training on CIDEr-D in the loss, in [0, 1]; cross-entropy has the rest.
            For a second phase, with ``start_from``.
        samples: Captions drawn of each image in self-critical training.
        teachers: Checkpoints of captioners with the same words whose next words are learned beside those of the
            references (`captioner.training.distillation`), or in self-critical training beside the rewards, after the
            words of the captions drawn, those that the model itself will come upon (Agarwal et al., 2024).
        distillation: Weight of what the teachers expect in that loss, in [0, 1]; references or rewards have the rest.
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
        feature_size: int | None = None,
        train_encoder_from: str | None = None,
        image_size: int = 224,
        resize: str = "squash",
        decoder: DecoderConfig = DecoderConfig(),  # noqa: B008 (frozen)
        start_from: str | list[str] | None = None,
        start_part: Part = "all",
        word_vectors: str | None = None,
        learning_rate: float = 1e-3,
        encoder_learning_rate: float = 1e-5,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        label_smoothing: float = 0.0,
        attention_regularization: float = 1.0,
        location_reward: float = 1.0,
        location_entropy: float = 0.01,
        feature_dropout: float = 0.0,
        word_dropout: float = 0.0,
        scheduled_sampling: float = 0.0,
        self_critical: float = 0.0,
        samples: int = 5,
        teachers: list[str] | None = None,
        distillation: float = 0.5,
        validation_beam_size: int = 1,
        ema: float = 0.0,
    ) -> None:
        super().__init__()
        for name, share in (
            ("word_dropout", word_dropout),
            ("scheduled_sampling", scheduled_sampling),
            ("self_critical", self_critical),
            ("distillation", distillation),
        ):
            if not 0 <= share <= 1:
                raise CaptionerError(f"model.{name} is {share}; it must be at least 0 and at most 1")
        if samples < 2:
            raise CaptionerError(f"model.samples is {samples}; it must be at least 2, for each to have a rival")
        for name, share in (("label_smoothing", label_smoothing), ("feature_dropout", feature_dropout)):
            if not 0 <= share < 1:
                raise CaptionerError(f"model.{name} is {share}; it must be at least 0 and less than 1")
        self.averaging = [moving_average(ema)] if ema else []
        grid_encoder = GridEncoder(encoder, encoder_weights, encoder_stage, feature_size)
        projection = grid_encoder.projection
        drawn = None if projection is None else projection.weight.detach().clone()
        grid_encoder.train_from(train_encoder_from)
        grid_encoder.grid_shape(image_size)  # refuses what is too small
        transform = grid_encoder.default_transform(image_size, resize)
        config = CaptionerConfig(encoder, encoder_stage, feature_size, decoder, transform)
        self.model = CaptionModel(config, len(vocabulary), grid_encoder)
        starts = [start_from] if isinstance(start_from, str) else start_from or []
        if isinstance(start_from, list):
            if start_part != "all":
                raise CaptionerError(
                    f"model.start_part {start_part} takes from one checkpoint; model.start_from is a list"
                )
            warm_start_members(self.model, vocabulary, starts)
        elif start_from is not None:
            warm_start(self.model, vocabulary, start_from, start_part)
        if projection is not None and grid_encoder.is_frozen and torch.equal(projection.weight, drawn):  # type: ignore[arg-type]
            raise CaptionerError(
                f"model.feature_size {feature_size} is the length of a map that nothing would teach; set "
                "model.train_encoder_from to projection, or model.start_from to a checkpoint that has such a map"
            )
        if word_vectors is not None:
            vectors = read_word_vectors(Path(word_vectors), vocabulary, decoder.embedding_size)
            with torch.no_grad():
                for member in self.model.decoder.members:
                    for id_, vector in vectors.items():
                        member.embedding.weight[id_] = vector
        self.teachers = Teachers(teachers, self.model, vocabulary) if teachers else None
        self.location_baseline: Tensor
        if decoder.attention == "hard":
            self.register_buffer("location_baseline", torch.zeros(()))
        self.vocabulary = vocabulary
        self.learning_rate = learning_rate
        self.encoder_learning_rate = encoder_learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.label_smoothing = label_smoothing
        self.attention_regularization = attention_regularization
        self.location_reward = location_reward
        self.location_entropy = location_entropy
        self.feature_dropout = feature_dropout
        self.word_dropout = word_dropout
        self.scheduled_sampling = scheduled_sampling
        self.self_critical = self_critical
        self.samples = samples
        self.distillation = distillation
        self.validation_options = DecodingOptions(beam_size=validation_beam_size)
        self.provenance = {
            "encoder weights": Path(encoder_weights).name,
            "encoder trained": f"from {train_encoder_from}" if train_encoder_from else "no",
            "self-critical": self_critical,
            "moving average": ema,
            "started from": ", ".join(Path(start).name for start in starts) or "nothing",
            "started with": start_part if starts else "nothing",
            "teachers": [Path(file).name for file in teachers or []],
        }
        self._validated = Validated()

    def configure_callbacks(self) -> list[WeightAveraging]:
        """What the trainer is to do beside."""
        return self.averaging

    def on_fit_start(self) -> None:
        """Counts what rewards are computed from, and moves what Lightning does not know of."""
        if self.teachers is not None:
            self.teachers.to(self.device)
        if self.self_critical > 0:
            self._reward = make_reward(self.trainer.datamodule.train.captions)  # type: ignore[attr-defined]

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        """Seeds dropout by the batch, so that a resumed run goes on as the interrupted one would have."""
        torch.manual_seed(self._seed(batch_index))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """One step of teacher forcing."""
        whole, pixels = self._look(batch)
        grid = drop_channels(whole, self.feature_dropout)
        outcome = self.model.decoder(grid, batch.captions, self._words_to_read(grid, batch.captions))
        loss = word_loss(outcome, self.label_smoothing)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.indices))
        if self.self_critical == 0:
            loss = self._taught(loss, outcome, pixels, whole, batch.captions)
        if outcome.attention is not None and self.attention_regularization > 0:
            regions = outcome.attention[..., : grid.shape[1]]  # not the sentinel, which may have all of a sentence
            penalty = attention_penalty(regions)
            self.log("train/attention_penalty", penalty, batch_size=len(batch.indices))
            loss = loss + self.attention_regularization * penalty
        if outcome.chosen is not None:
            looking, reward = location_loss(outcome, self.location_baseline, self.location_entropy)
            self.location_baseline.lerp_(reward, BASELINE_RATE)
            loss = loss + self.location_reward * looking
        if self.self_critical > 0:
            seed, indices = self._seed(batch_index), batch.indices.tolist()
            drawn = self_critical_loss(self.model.decoder, grid, indices, self._reward, self.samples, seed)
            self.log("train/reward", drawn.reward, prog_bar=True, batch_size=len(indices))
            critical = self._taught(drawn.loss, drawn.outcome, pixels, whole, drawn.captions)
            loss = (1 - self.self_critical) * loss + self.self_critical * critical
        if not torch.isfinite(loss):
            records = self.trainer.datamodule.train.records  # type: ignore[attr-defined]
            indices = batch.indices.tolist()
            images = ", ".join(str(records[index].image) for index in indices[:_IMAGES_NAMED])
            more = f" and {len(indices) - _IMAGES_NAMED} more" if len(indices) > _IMAGES_NAMED else ""
            raise CaptionerError(
                f"the loss of batch {batch_index} of epoch {self.current_epoch} is {loss.item()}; lower "
                f"model.learning_rate or trainer.gradient_clip_val, or look at its images: {images}{more}"
            )
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Loss under teacher forcing, and captions that are generated, never teacher-forced."""
        grid, _ = self._look(batch)
        outcome = self.model.decoder(grid, batch.captions)
        words = len(outcome.targets)
        hypotheses = decode(self.model.decoder, grid, self.validation_options)
        captions = [join_words(self.vocabulary.decode(each[0].words)) for each in hypotheses]
        generated = dict(zip(batch.indices.tolist(), captions, strict=True))
        self._validated += Validated(generated, float(word_loss(outcome)) * words, words)

    def on_validation_epoch_end(self) -> None:
        """Scores the generated captions against all references; of several processes, each scores those of all."""
        whole = self._validated.of_all_processes()
        self._validated = Validated()
        loss = torch.tensor(whole.loss / whole.words)
        self.log("val/loss", loss)
        self.log("val/perplexity", loss.exp())
        records = self.trainer.datamodule.val.records  # type: ignore[attr-defined]
        references = {index: records[index].captions for index in whole.generated}
        for name, value in score(whole.generated, references).items():
            self.log(f"val/{name}", value, prog_bar=name == "CIDEr")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with decoupled weight decay, each part at its own rate; warm-up, then a cosine to 0."""
        total = int(self.trainer.estimated_stepping_batches)
        return make_optimizer(self._parts, self.weight_decay, self.warmup_steps, total)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what makes the file a captioner: configuration, words, card."""
        checkpoint[METADATA_KEY] = Checkpoint(self.model.config, self.vocabulary.words, {}, self._model_card()).header()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses to resume what was trained otherwise; with other words, every id would mean something else."""
        refuse_another(checkpoint, Checkpoint(self.model.config, self.vocabulary.words, {}, {}))
        if ("averaging_state" in checkpoint) != bool(self.averaging):
            kept = "a" if "averaging_state" in checkpoint else "no"
            raise CaptionerError(f"the checkpoint to resume from has {kept} moving average; use its own model.ema")
        refuse_another_optimizer(checkpoint, self._parts, self.weight_decay)

    @property
    def _parts(self) -> list[tuple[torch.nn.Module, float]]:
        """What is trained, and the peak learning rate of each."""
        return [(self.model.decoder, self.learning_rate), (self.model.encoder, self.encoder_learning_rate)]

    def _seed(self, batch_index: int) -> int:
        """The seed of a batch of this process: of all batches of an epoch, each has another."""
        return batch_seed(self.current_epoch, batch_index * self.trainer.world_size + self.trainer.global_rank)

    def _words_to_read(self, grid: Tensor, captions: Tensor) -> Tensor:
        if self.scheduled_sampling > 0 and self.global_step > 0:
            share = self.scheduled_sampling * self.global_step / max(1, int(self.trainer.estimated_stepping_batches))
            captions = sample_tokens(self.model.decoder, grid, captions, share)
        return drop_tokens(captions, self.word_dropout) if self.word_dropout > 0 else captions

    def _taught(
        self, loss: Tensor, outcome: TeacherForced, pixels: Tensor | None, whole: Tensor, captions: Tensor
    ) -> Tensor:
        """A loss of words, with what the teachers, if there are any, expect after them."""
        if self.teachers is None:
            return loss
        taught = distillation_loss(outcome, self.teachers.distribution(pixels, whole, captions))
        self.log("train/distillation", taught, batch_size=len(captions))
        return (1 - self.distillation) * loss + self.distillation * taught

    def _look(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The CNN's grid, and the pixels that it was shown; None where the batch holds features."""
        if batch.images.dtype == torch.uint8:
            pixels = self.model.config.transform.normalize(batch.images)
            return self.model.encoder(pixels), pixels
        return batch.images.float(), None

    def _model_card(self) -> dict[str, Any]:
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
