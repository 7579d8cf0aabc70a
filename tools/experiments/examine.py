"""A trained captioner, or language model, on what its run is validated with: scores, and the time that it takes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import lightning
import torch
import yaml
from torch import Tensor

from captioner import checkpoint
from captioner.data.dataset import Batch
from captioner.decoding import DecodingOptions, decode
from captioner.metrics import score
from captioner.models.decoder import DecoderConfig
from captioner.pipeline import Captioner, load
from captioner.training.datamodule import CaptionData
from captioner.training.language_module import LanguageModule
from captioner.training.options import OptimizerOptions, WordNoiseOptions
from captioner.training.tasks import TASKS
from captioner.training.text_datamodule import TextData

TIMED_STEPS = 20
"""Training steps whose median tells the speed of a language model."""

QUIET: Mapping[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
"""For a Trainer that leaves nothing behind."""


class Examiner(lightning.LightningModule):
    """Captions the images of a validation loader.

    Args:
        captioner: Who writes.
        options: How.

    Attributes:
        captions: What was written, by the image's place in the split.
        seconds: What the decoder took; reading and encoding the images are not in it.
    """

    def __init__(self, captioner: Captioner, options: DecodingOptions) -> None:
        super().__init__()
        self.model = captioner.model
        [self.decoder] = captioner._decoders()
        self.vocabulary = captioner.vocabulary
        self.options = options
        self.captions: dict[int, str] = {}
        self.seconds = 0.0

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Captions one batch."""
        grid = self._grid(batch.images)
        begin = time.perf_counter()
        written = decode(self.decoder, grid, self.options)
        self.seconds += time.perf_counter() - begin
        for index, hypotheses in zip(batch.indices.tolist(), written, strict=True):
            self.captions[index] = self.vocabulary.text(hypotheses[0].words)

    def _grid(self, images: Tensor) -> Tensor:
        if images.dtype != torch.uint8:  # cached features
            return images.float()
        grid: Tensor = self.model.encoder(self.model.config.transform.normalize(images))
        return grid


def examine_captioner(run: Path, beam_size: int) -> Mapping[str, float]:
    """Scores the captioner of a finished run.

    Args:
        run: The folder that `captioner train` left.
        beam_size: Width of the beam; 1 is greedy.

    Returns:
        ``BLEU-4``, ``CIDEr``, ``images``, ``parameters`` of the decoder and ``captions_per_second``.
    """
    data = CaptionData(**settings(run)["data"])
    captioner = load(run / TASKS["captioning"].file)
    data.prepare_for(lambda: captioner.model)
    examiner = Examiner(captioner, DecodingOptions(beam_size=beam_size))
    trainer = lightning.Trainer(**QUIET)
    trainer.validate(examiner, datamodule=data, verbose=False)
    references = {index: data.val.records[index].captions for index in examiner.captions}
    scores = score(examiner.captions, references)
    return {
        "BLEU-4": scores["BLEU-4"],
        "CIDEr": scores["CIDEr"],
        "images": len(references),
        "parameters": sum(parameter.numel() for parameter in examiner.model.decoder.parameters()),
        "captions_per_second": len(references) / examiner.seconds,
    }


class Stopwatch(lightning.Callback):
    """Times training steps.

    Attributes:
        rates: Tokens a second, of each step.
    """

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Tensor, _: int
    ) -> None:
        """Lightning calls it before a step."""
        self._begin = time.perf_counter()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, outputs: object, batch: Tensor, _: int
    ) -> None:
        """Lightning calls it after a step; the batch has a token more than are read."""
        self.rates.append(batch[:, 1:].numel() / (time.perf_counter() - self._begin))


def examine_language_model(run: Path) -> Mapping[str, float]:
    """Tells how well a finished run predicts held-out text, and how fast it learns.

    Args:
        run: The folder that `captioner train` left.

    Returns:
        ``perplexity`` of the best epoch; ``bits``, its logarithm, of a word or character, END included; ``parameters``
        of the decoder; ``tokens_per_second`` of training.
    """
    content = checkpoint.read(run / TASKS["language_model"].file)
    model, _ = content.build_language_model()
    perplexity = content.card["validation scores"]["perplexity"]
    return {
        "perplexity": perplexity,
        "bits": math.log2(perplexity),
        "parameters": sum(parameter.numel() for parameter in model.decoder.parameters()),
        "tokens_per_second": training_speed(run),
    }


def training_speed(run: Path) -> float:
    """Tokens a second of a language model's training: the median of a few steps, so that a pause is not counted."""
    wanted = settings(run)
    data = TextData(**wanted["data"])
    options, kinds = wanted["model"], (DecoderConfig, OptimizerOptions, WordNoiseOptions)
    parts = [kind(**options[name]) for name, kind in zip(("decoder", "optimizer", "noise"), kinds, strict=True)]
    module = LanguageModule(data, *parts)
    watch, precision = Stopwatch(), wanted["trainer"]["precision"]
    trainer = lightning.Trainer(
        **QUIET, max_steps=TIMED_STEPS, limit_val_batches=0, precision=precision, callbacks=[watch]
    )
    trainer.fit(module, datamodule=data)
    return median(watch.rates)


def settings(run: Path) -> dict[str, Any]:
    """The configuration that a run has left in its folder."""
    content: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    return content
