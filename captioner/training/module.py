"""LightningModule for captioners: objectives, optimizer and validation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn

from captioner.captioning import resolve
from captioner.data.concepts import ConceptWords
from captioner.data.dataset import IGNORED, Batch
from captioner.decoding import DecodingOptions, decode
from captioner.errors import CaptionerError
from captioner.metrics import score
from captioner.models.backbones import PACKAGED_WEIGHTS
from captioner.models.captioner import CaptionerConfig, CaptionModel
from captioner.models.decoder import DecoderConfig
from captioner.models.decoder.ops import drop_channels
from captioner.models.encoder import GridEncoder
from captioner.text.pieces import separate
from captioner.training.base import TrainingModule
from captioner.training.datamodule import CaptionData
from captioner.training.distributed import Validated
from captioner.training.noising import drop_tokens, sample_tokens
from captioner.training.objectives.attention import AttentionPenalty
from captioner.training.objectives.concepts import ConceptLoss, KeptClasses, PretrainedClassifier, begin_concepts
from captioner.training.objectives.distillation import Distillation, Teachers
from captioner.training.objectives.location import LocationLoss
from captioner.training.objectives.objective import Objective, TrainingStep, combine
from captioner.training.objectives.self_critical import SelfCritical
from captioner.training.objectives.words import WordLoss, word_loss
from captioner.training.optim import moving_average
from captioner.training.options import (
    CaptionerOptimizerOptions,
    DistillationOptions,
    EncoderOptions,
    LossOptions,
    NoiseOptions,
    SelfCriticalOptions,
    StartOptions,
)
from captioner.training.warm_start import read_word_vectors, warm_start, warm_start_members

_IMAGES_NAMED = 8
"""Number of images of a batch named in a message."""

_IN_PROGRESS_BAR = ("loss", "reward")
"""Logged values shown in the progress bar."""


class CaptioningModule(TrainingModule):
    """Trains encoder, decoder and word embedding together.

    Args:
        data: The data of the run, which uses the model's preprocessing.
        encoder: The CNN and its preprocessing.
        decoder: Configuration of the decoder.
        start: Initial weights.
        optimizer: Options of the optimizer.
        losses: Weights of the losses on reference captions.
        noise: Noise on inputs and features.
        self_critical: Self-critical training on sampled captions.
        distillation: Distillation from other captioners.
        validation_beam_size: Beam size of the captions scored in validation; 1 is greedy.
    """

    data: CaptionData
    model: CaptionModel
    optimizer: CaptionerOptimizerOptions

    def __init__(
        self,
        data: CaptionData,
        encoder: EncoderOptions = EncoderOptions(),  # noqa: B008 (frozen, as all of them)
        decoder: DecoderConfig = DecoderConfig(),  # noqa: B008
        start: StartOptions = StartOptions(),  # noqa: B008
        optimizer: CaptionerOptimizerOptions = CaptionerOptimizerOptions(),  # noqa: B008
        losses: LossOptions = LossOptions(),  # noqa: B008
        noise: NoiseOptions = NoiseOptions(),  # noqa: B008
        self_critical: SelfCriticalOptions = SelfCriticalOptions(),  # noqa: B008
        distillation: DistillationOptions = DistillationOptions(),  # noqa: B008
        validation_beam_size: int = 1,
    ) -> None:
        super().__init__(data, optimizer)
        self.encoder = encoder
        self.decoder = decoder
        self.start = start
        self.losses = losses
        self.noise = noise
        self.self_critical = self_critical
        self.distillation = distillation
        self.validation_options = DecodingOptions(beam_size=validation_beam_size)
        self.averaging = [moving_average(optimizer.ema)] if optimizer.ema else []
        self.objectives: list[Objective] = []
        self._validated = Validated()
        data.prepare_for(self.configured)

    def build(self) -> None:
        """Build the network with its initial weights, and the objectives.

        Raises:
            CaptionerError: A file is unusable, or options are incompatible.
        """
        self.model = self._network()
        self.objectives = self._objectives()

    def configured(self) -> CaptionModel:
        """The network; built on first use."""
        self.configure_model()
        return self.model

    @property
    def config(self) -> CaptionerConfig:
        """The network's configuration."""
        return self.model.config

    @property
    def parts(self) -> list[tuple[nn.Module, float]]:
        """The trained modules with their peak learning rates."""
        rates = self.optimizer
        return [(self.model.decoder, rates.learning_rate), (self.model.encoder, rates.encoder_learning_rate)]

    @property
    def provenance(self) -> dict[str, Any]:
        """Further entries of the model card about training."""
        encoder, starts = self.encoder, self.start.checkpoints
        return {
            "encoder weights": Path(encoder.weights).name,
            "encoder trained": f"from {encoder.unfreeze_from}" if encoder.unfreeze_from else "no",
            "self-critical": self.self_critical.weight,
            "moving average": self.optimizer.ema,
            "started from": ", ".join(Path(start).name for start in starts) or "nothing",
            "started with": self.start.part if starts else "nothing",
            "teachers": [Path(file).name for file in self.distillation.teachers or []],
        }

    def configure_callbacks(self) -> list[WeightAveraging]:
        """Further callbacks."""
        return self.averaging

    def on_fit_start(self) -> None:
        """Prepare the objectives."""
        for objective in self.objectives:
            objective.begin(self.data, self.device)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Compute the loss of all objectives on a batch, with teacher forcing."""
        features, pixels = self._encode(batch)
        grid = drop_channels(features, self.noise.feature_dropout)
        outcome = self.model.decoder(grid, batch.targets, self._words_to_read(grid, batch))
        seed = self.batch_seed(batch_index)
        step = TrainingStep(self.model, batch, seed, pixels, features, grid, batch.captions, outcome)
        loss, logged = combine(objective(step) for objective in self.objectives)
        for name, value in logged.items():
            self.log(f"train/{name}", value, prog_bar=name in _IN_PROGRESS_BAR, batch_size=len(batch.indices))
        if not torch.isfinite(loss):
            raise self.divergence(loss, batch_index, self._cure(batch))
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Compute the loss with teacher forcing, and generate captions without."""
        grid, _ = self._encode(batch)
        outcome = self.model.decoder(grid, batch.targets, batch.captions)
        words = int((outcome.targets != IGNORED).sum())
        generated = dict(zip(batch.indices.tolist(), self._generate(grid, batch), strict=True))
        self._validated += Validated(generated, float(word_loss(outcome)) * words, words)

    def on_validation_epoch_end(self) -> None:
        """Score the generated captions of all processes against all references."""
        whole = self._validated.of_all_processes()
        self._validated = Validated()
        loss = torch.tensor(whole.loss / whole.words)
        self.log("val/loss", loss)
        self.log("val/perplexity", loss.exp())
        references = {index: self.data.val.records[index].captions for index in whole.generated}
        for name, value in self._score(whole.generated, references).items():
            self.log(f"val/{name}", value, prog_bar=name == "CIDEr")

    def _score(self, generated: Mapping[int, str], references: Mapping[int, Sequence[str]]) -> dict[str, float]:
        if self.vocabulary.tokenizer is None:
            return score(generated, references)
        # The official tokenizer is for English: here words and marks of punctuation are counted, in any script.
        candidates = {index: separate(caption) for index, caption in generated.items()}
        return score(candidates, {i: [*map(separate, captions)] for i, captions in references.items()}, "none")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to resume a run with other options, such as another moving average."""
        if ("averaging_state" in checkpoint) != bool(self.averaging):
            kept = "a" if "averaging_state" in checkpoint else "no"
            raise CaptionerError(
                f"the checkpoint to resume from has {kept} moving average; use its own model.optimizer.ema"
            )
        super().on_load_checkpoint(checkpoint)

    def _network(self) -> CaptionModel:
        """Build encoder and decoder with their initial weights."""
        options, vocabulary = self.encoder, self.vocabulary
        decoder, concepts = self.decoder, self._concept_words()
        if concepts is not None:
            classes = len(concepts.classes) if options.name in PACKAGED_WEIGHTS else 0
            decoder = replace(decoder, concept_words=len(concepts), concept_classes=classes)
        encoder = GridEncoder(options.name, options.weights, options.last_stage, options.feature_size)
        projection = encoder.projection
        drawn = None if projection is None else projection.weight.detach().clone()
        encoder.train_from(options.unfreeze_from)
        encoder.grid_shape(options.image_size)  # refuses a too small size
        transform = encoder.default_transform(options.image_size, options.resize)
        config = CaptionerConfig(options.name, options.last_stage, options.feature_size, decoder, transform)
        model = CaptionModel(config, len(vocabulary), encoder)
        if isinstance(self.start.checkpoint, list):
            warm_start_members(model, vocabulary, self.start.checkpoint)
        elif self.start.checkpoint is not None:
            warm_start(model, vocabulary, self.start.checkpoint, self.start.part)
        if concepts is not None:
            begin_concepts(model, concepts, options.name)
        if projection is not None and encoder.is_frozen and torch.equal(projection.weight, drawn):  # type: ignore[arg-type]
            raise CaptionerError(
                f"model.encoder.feature_size {options.feature_size} is the length of a map that nothing would teach; "
                "set model.encoder.unfreeze_from to projection, or model.start.checkpoint to a checkpoint that has "
                "such a map"
            )
        if self.start.word_vectors is not None:
            vectors = read_word_vectors(Path(self.start.word_vectors), vocabulary, self.decoder.embedding_size)
            with torch.no_grad():
                for member in model.decoder.members:
                    for id_, vector in vectors.items():
                        member.embedding.weight[id_] = vector
        return model

    def _objectives(self) -> list[Objective]:
        """The objectives, in the order in which their losses are summed."""
        losses, rewards, teachers = self.losses, self.self_critical, self.distillation.teachers
        if self.data.prompts and (rewards.weight > 0 or teachers or self.decoder.attention == "hard"):
            raise CaptionerError(
                "data.prompts is only for the cross-entropy of words; drop model.self_critical.weight and "
                "model.distillation.teachers, and choose another model.decoder.attention than hard"
            )
        taught: list[Objective] = []
        if teachers:
            taught = [Distillation(self.distillation.weight, Teachers(teachers, self.model, self.vocabulary))]
        objectives: list[Objective] = [WordLoss(losses.label_smoothing)]
        if rewards.weight == 0:
            objectives += taught
        if self.decoder.concepts != "none" and losses.concepts > 0:
            objectives.append(ConceptLoss(losses.concepts))
        if losses.kept_classes > 0:
            objectives.append(KeptClasses(losses.kept_classes, PretrainedClassifier(self.encoder.name)))
        if self.decoder.attention != "none" and losses.attention_regularization > 0:
            objectives.append(AttentionPenalty(losses.attention_regularization))
        if self.decoder.attention == "hard":
            objectives.append(LocationLoss(losses.location_reward, losses.location_entropy, self))
        if rewards.weight > 0:
            objectives.append(SelfCritical(rewards, taught))
        return objectives

    def _concept_words(self) -> ConceptWords | None:
        """The concepts, if the decoder has some."""
        if self.decoder.concepts == "none":
            if self.losses.kept_classes > 0:
                raise CaptionerError(
                    "model.losses.kept_classes needs a decoder with concepts; set model.decoder.concepts to copy"
                )
            return None
        if not self.data.concepts:
            raise CaptionerError(
                f"model.decoder.concepts {self.decoder.concepts} needs targets; set data.concepts to true"
            )
        return ConceptWords(self.vocabulary)

    def _encode(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The feature grid, and its input pixels; None if the batch holds cached features."""
        if batch.images.dtype == torch.uint8:
            pixels = self.model.config.transform.normalize(batch.images)
            return self.model.encoder(pixels), pixels
        return batch.images.float(), None

    def _generate(self, grid: Tensor, batch: Batch) -> list[str]:
        """Generate a caption of each image, which continues its prompt if it has one."""
        captions = [""] * len(grid)
        rows_of: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for row, prompt in enumerate(batch.prompts):
            rows_of[prompt].append(row)
        for prompt, rows in rows_of.items():
            words = self.validation_options.max_words + len(prompt)
            options = replace(self.validation_options, prompt=prompt, max_words=words)
            found = decode(self.model.decoder, grid[rows], *resolve(options, self.vocabulary))
            for row, [best, *_] in zip(rows, found, strict=True):
                captions[row] = self.vocabulary.text(best.words[best.given :])
        return captions

    def _words_to_read(self, grid: Tensor, batch: Batch) -> Tensor:
        """The decoder's input: the captions with noise, but none in their prompts."""
        noise, captions = self.noise, batch.captions
        if noise.scheduled_sampling > 0 and self.global_step > 0:
            share = noise.scheduled_sampling * self.global_step / max(1, int(self.trainer.estimated_stepping_batches))
            captions = sample_tokens(self.model.decoder, grid, captions, share)
        if noise.word_dropout > 0:
            captions = drop_tokens(captions, noise.word_dropout)
        return captions if batch.given is None else torch.where(batch.targets == IGNORED, batch.captions, captions)

    def _cure(self, batch: Batch) -> str:
        """Suggest a cure for a batch whose loss is not finite."""
        indices = batch.indices.tolist()
        images = ", ".join(str(self.data.train.records[index].image) for index in indices[:_IMAGES_NAMED])
        more = f" and {len(indices) - _IMAGES_NAMED} more" if len(indices) > _IMAGES_NAMED else ""
        return (
            f"lower model.optimizer.learning_rate or trainer.gradient_clip_val, or look at its images: {images}{more}"
        )
