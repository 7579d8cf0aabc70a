"""A trained captioner on the validation images of its run: scores, and the time that its decoder takes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from torch import Tensor

from captioner.data.dataset import Batch
from captioner.data.module import CaptionData
from captioner.decoding import DecodingOptions, decode
from captioner.metrics import score
from captioner.pipeline import Captioner, load
from captioner.vocabulary import join_words


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
        self.model = captioner.model  # `CaptionData` asks it for the preprocessing
        self.vocabulary = captioner.vocabulary
        self.options = options
        self.captions: dict[int, str] = {}
        self.seconds = 0.0

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Captions one batch."""
        grid = self._grid(batch.images)
        begin = time.perf_counter()
        written = decode(self.model.decoder, grid, self.options)
        self.seconds += time.perf_counter() - begin
        for place, hypotheses in zip(batch.places.tolist(), written, strict=True):
            self.captions[place] = join_words(self.vocabulary.decode(hypotheses[0].words))

    def _grid(self, images: Tensor) -> Tensor:
        if images.dtype != torch.uint8:  # cached features
            return images.float()
        grid: Tensor = self.model.encoder(self.model.config.transform.normalise(images))
        return grid


def examine(run: Path, beam_size: int) -> Mapping[str, float]:
    """Scores the captioner of a finished run.

    Args:
        run: The folder that `captioner train` left.
        beam_size: Width of the beam; 1 is greedy.

    Returns:
        ``BLEU-4``, ``CIDEr``, ``images``, ``parameters`` of the decoder and ``captions_per_second``.
    """
    settings: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["data"]
    data = CaptionData(**settings)
    examiner = Examiner(load(run / "captioner.safetensors"), DecodingOptions(beam_size=beam_size))
    trainer = lightning.Trainer(
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.validate(examiner, datamodule=data, verbose=False)
    references = {place: data.val.records[place].captions for place in examiner.captions}
    scores = score(examiner.captions, references)
    return {
        "BLEU-4": scores["BLEU-4"],
        "CIDEr": scores["CIDEr"],
        "images": len(references),
        "parameters": sum(parameter.numel() for parameter in examiner.model.decoder.parameters()),
        "captions_per_second": len(references) / examiner.seconds,
    }
