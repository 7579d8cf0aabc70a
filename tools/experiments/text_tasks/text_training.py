"""Training of text networks: batches of equal length, early stopping, and runs that go on where they were stopped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence, Sized
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from text_encoder import TextConfig, TextModel, equal_lengths
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from captioner.data.text_files import read_whole
from captioner.errors import CaptionerError
from captioner.text.pieces import Pieces
from captioner.text.vocabulary import PAD, Vocabulary
from captioner.training.objectives.words import word_loss
from captioner.training.optim import warmup_cosine
from captioner.utils.files import replacing

LAST, BEST = "last.ckpt", "best.ckpt"
"""Checkpoints of a run's folder: where it goes on, and the weights with the best validation score."""

WARMUP_STEPS = 200


class Pair(NamedTuple):
    """What is read and what is to be written.

    Attributes:
        source: What the encoder reads, such as the token ids of a sentence; its length is that of the grid.
        target: Token ids, START and END included.
    """

    source: Sized
    target: list[int]


@dataclass(frozen=True)
class FitOptions:
    """Options of training.

    Attributes:
        epochs: Greatest number of epochs; over them, the learning rate decays to 0 along a cosine.
        patience: Epochs without a better validation score after which training stops.
        batch_size: Sentences per step.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Decoupled weight decay.
        ema: Decay per step of the moving average of the weights, in [0, 1); the average is what is scored and kept.
        label_smoothing: Share of the target probability that is spread over all tokens.
        word_dropout: Share of the words read, and of the tokens fed back, that are replaced by UNKNOWN.
        bf16: Whether to compute in bfloat16 where that is safe, which takes half the time on CPUs that have it.
        seed: Seed of the initial weights, the order of the batches, and dropout.
    """

    epochs: int = 10
    patience: int = 3
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    ema: float = 0.99
    label_smoothing: float = 0.1
    word_dropout: float = 0.1
    bf16: bool = True
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch_size"):
            if getattr(self, name) < 1:
                raise CaptionerError(f"{name.replace('_', ' ')} is {getattr(self, name)}; it must be at least 1")
        for name in ("ema", "label_smoothing", "word_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise CaptionerError(f"{name.replace('_', ' ')} is {getattr(self, name)}; it must be in [0, 1)")
        if self.learning_rate <= 0:
            raise CaptionerError(f"learning rate is {self.learning_rate}; it must be greater than 0")


class Trained(NamedTuple):
    """A network with its vocabularies, as a checkpoint holds it."""

    model: TextModel
    source: Vocabulary
    target: Vocabulary

    @classmethod
    def new(cls, config: TextConfig, source: Vocabulary, target: Vocabulary, seed: int = 0) -> Trained:
        """Build a network with random weights, which depend on the seed alone."""
        torch.manual_seed(seed)
        return cls(TextModel(config, len(source), len(target)), source, target)

    @classmethod
    def load(cls, folder: Path, config: type[TextConfig] = TextConfig) -> Trained:
        """Load the best network of a run.

        Args:
            folder: The run's folder.
            config: The class of its configuration.

        Raises:
            CaptionerError: There is none, or it cannot be read.
        """
        content = read_checkpoint(folder / BEST, config.kind)
        if content is None:
            raise CaptionerError(f"{folder}: has no {BEST}; train first")
        source, target = (
            Vocabulary(each["words"], Pieces(**each["tokenizer"]) if each["tokenizer"] else None)
            for each in (content["source"], content["target"])
        )
        trained = cls.new(config(**content["config"]), source, target)
        trained.model.load_state_dict(content["model"])
        return trained

    def describe(self) -> dict[str, Any]:
        """What a checkpoint says of it beside the weights."""
        config = self.model.config
        return {
            "kind": config.kind,
            "config": asdict(config),
            "source": _facts(self.source),
            "target": _facts(self.target),
        }


def _facts(vocabulary: Vocabulary) -> dict[str, Any]:
    tokenizer = vocabulary.tokenizer
    return {"words": list(vocabulary.words), "tokenizer": tokenizer and tokenizer.facts()}


def read_checkpoint(path: Path, kind: str = TextConfig.kind) -> dict[str, Any] | None:
    """Read a checkpoint of a kind without unpickling; None where there is none.

    Raises:
        CaptionerError: It cannot be read, or is another tool's.
    """
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the damage leads to
        raise CaptionerError(f"{path}: cannot be read as a checkpoint; delete it and train again") from error
    if not isinstance(content, dict) or content.get("kind") != kind:
        raise CaptionerError(f"{path}: is the checkpoint of another tool; name another folder")
    return content


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint atomically."""
    with replacing(path) as temporary:
        torch.save(content, temporary)


def read_lines(path: Path) -> list[str]:
    """Read the lines of a UTF-8 text file, which may be compressed by gzip."""
    # Not splitlines(), which would also end lines at rare characters that a parallel text does not have.
    return read_whole(path).removesuffix("\n").split("\n")


def make_batches(
    pairs: Sequence[Pair], size: int, order: Sequence[int] | None = None
) -> list[tuple[list[Sized], Tensor]]:
    """Divide pairs into batches of sentences of one length.

    Args:
        pairs: The pairs.
        size: Greatest number of pairs of a batch.
        order: The order in which to take them; by default as they come.

    Returns:
        Sources, and targets, shape (pairs, length), the longest first, PAD after END.
    """
    batches = []
    for indices in equal_lengths([len(pair.source) for pair in pairs], size, order):
        chosen = sorted((pairs[index] for index in indices), key=lambda pair: -len(pair.target))
        targets = pad_sequence([torch.tensor(pair.target) for pair in chosen], batch_first=True, padding_value=PAD)
        batches.append(([pair.source for pair in chosen], targets))
    return batches


def fit(
    trained: Trained, pairs: Sequence[Pair], score: Callable[[TextModel], float], options: FitOptions, folder: Path
) -> float:
    """Train a network, or go on with a run that was stopped, until the validation score no longer rises.

    A run that was stopped repeats at most one epoch, and ends with the same weights as one that was not.

    Args:
        trained: The network with its initial weights.
        pairs: Training pairs.
        score: Computes the validation score, the higher the better, after each epoch.
        options: Options of training.
        folder: The run's folder, for its checkpoints.

    Returns:
        The best validation score.

    Raises:
        CaptionerError: The folder has a run with other settings, or the loss is no longer finite.
    """
    model = trained.model
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(options.ema))  # type: ignore[no-untyped-call]
    steps = len(make_batches(pairs, options.batch_size))
    optimizer = torch.optim.AdamW(
        model.parameters(), options.learning_rate, betas=(0.9, 0.98), weight_decay=options.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: warmup_cosine(step, min(WARMUP_STEPS, steps), options.epochs * steps)
    )
    settings = {**trained.describe(), "options": asdict(options), "pairs": len(pairs)}
    begin, scores = 0, []
    if (last := read_checkpoint(folder / LAST, model.config.kind)) is not None:
        if last["settings"] != settings:
            raise CaptionerError(f"{folder}: has a run with other data or options; name another folder")
        model.load_state_dict(last["model"])
        average.load_state_dict(last["average"])
        optimizer.load_state_dict(last["optimizer"])
        schedule.load_state_dict(last["schedule"])
        begin, scores = last["epoch"], last["scores"]
    for epoch in range(begin, options.epochs):
        if _is_over(scores, options.patience):
            break
        started = time.monotonic()
        loss = _train_epoch(model, average, pairs, optimizer, schedule, options, epoch)
        scores.append(score(cast(TextModel, average.module)))
        told = f"epoch {epoch + 1}: loss {loss:.3f}, validation {scores[-1]:.3f}, {time.monotonic() - started:.0f} s"
        print(told, file=sys.stderr, flush=True)
        if scores[-1] == max(scores):
            write_checkpoint(folder / BEST, {**trained.describe(), "model": average.module.state_dict()})
        networks = {"model": model.state_dict(), "average": average.state_dict()}
        state = {**networks, "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
        reached = {"kind": model.config.kind, "epoch": epoch + 1, "scores": scores}
        write_checkpoint(folder / LAST, {"settings": settings, **reached, **state})
    return float(max(scores))


def _is_over(scores: Sequence[float], patience: int) -> bool:
    return bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= patience


def _train_epoch(
    model: TextModel,
    average: AveragedModel,
    pairs: Sequence[Pair],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    options: FitOptions,
    epoch: int,
) -> float:
    """Train for an epoch, which depends on nothing but the state before it and the seed; returns the mean loss."""
    torch.manual_seed(options.seed * 1_000_003 + epoch)
    batches = make_batches(pairs, options.batch_size, torch.randperm(len(pairs)).tolist())
    model.train()
    total = 0.0
    for index in torch.randperm(len(batches)).tolist():
        sources, targets = batches[index]
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            loss = word_loss(model(sources, targets, options.word_dropout), options.label_smoothing)
        if not torch.isfinite(loss):
            raise CaptionerError(f"the loss of epoch {epoch + 1} is {loss.item()}; lower the learning rate")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
        total += loss.item()
    return total / len(batches)
