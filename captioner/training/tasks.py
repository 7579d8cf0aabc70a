"""Training tasks: captioner and language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import lightning

from captioner.training.base import TrainingModule
from captioner.training.datamodule import CaptionData
from captioner.training.language_module import LanguageModule
from captioner.training.module import CaptioningModule
from captioner.training.text_datamodule import TextData


@dataclass(frozen=True)
class Task:
    """A training task.

    Attributes:
        model: Its LightningModule.
        data: Its LightningDataModule.
        score: The validation score that selects the best epoch.
        scores: All validation scores.
        file: File name of the checkpoint.
    """

    model: type[TrainingModule]
    data: type[lightning.LightningDataModule]
    score: str
    scores: tuple[str, ...]
    file: str


TASKS = {
    "captioning": Task(
        CaptioningModule,
        CaptionData,
        "val/CIDEr",
        ("val/loss", "val/perplexity", *(f"val/BLEU-{n}" for n in range(1, 5)), "val/ROUGE-L", "val/CIDEr"),
        "captioner.safetensors",
    ),
    "language_model": Task(
        LanguageModule,
        TextData,
        "val/perplexity",
        ("val/loss", "val/perplexity"),
        "language_model.safetensors",
    ),
}
"""Tasks by the value of the configuration's field ``task``."""


def best_mode(score: str) -> Literal["min", "max"]:
    """Whether a validation score is minimized or maximized."""
    return "min" if score in ("val/loss", "val/perplexity") else "max"
