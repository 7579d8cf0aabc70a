"""Renamed training options, with messages for old configurations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import yaml

from captioner.errors import CaptionerError
from captioner.training.run_arguments import Configuration

RENAMED = {
    "encoder": "encoder.name",
    "encoder_weights": "encoder.weights",
    "encoder_stage": "encoder.last_stage",
    "feature_size": "encoder.feature_size",
    "train_encoder_from": "encoder.unfreeze_from",
    "image_size": "encoder.image_size",
    "resize": "encoder.resize",
    "start_from": "start.checkpoint",
    "start_part": "start.part",
    "word_vectors": "start.word_vectors",
    "learning_rate": "optimizer.learning_rate",
    "encoder_learning_rate": "optimizer.encoder_learning_rate",
    "weight_decay": "optimizer.weight_decay",
    "warmup_steps": "optimizer.warmup_steps",
    "ema": "optimizer.ema",
    "label_smoothing": "losses.label_smoothing",
    "attention_regularization": "losses.attention_regularization",
    "location_reward": "losses.location_reward",
    "location_entropy": "losses.location_entropy",
    "word_dropout": "noise.word_dropout",
    "feature_dropout": "noise.feature_dropout",
    "scheduled_sampling": "noise.scheduled_sampling",
    "self_critical": "self_critical.weight",
    "samples": "self_critical.samples",
    "teachers": "distillation.teachers",
    "distillation": "distillation.weight",
}
"""Old and new names below ``model``."""

_GROUPS = frozenset(name.partition(".")[0] for name in RENAMED.values())
"""Names that became groups; the value shows whether the old option is meant."""


def refuse_renamed(configurations: Iterable[Configuration], args: Sequence[str]) -> None:
    """Refuse old option names, with a message that lists all new ones.

    Args:
        configurations: The configuration files of a run.
        args: Its command line, as ``captioner train`` takes it.

    Raises:
        CaptionerError: There are old names.
    """
    places = [*((f"{file}: ", _of_file(fields)) for file, fields in configurations), ("", _of_command_line(args))]
    for place, options in places:
        renamed = [name for name, value in options if _is_old(name, value)]
        if renamed:
            told = ", ".join(f"model.{name} is model.{RENAMED[name]} now" for name in dict.fromkeys(renamed))
            raise CaptionerError(f"train: {place}{told}")


def _of_file(fields: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values below ``model``."""
    model = fields.get("model")
    if isinstance(model, dict):
        yield from ((str(name), value) for name, value in model.items())


def _of_command_line(args: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Names and values of arguments such as ``--model.NAME VALUE`` and ``--model.NAME=VALUE``."""
    for argument, following in zip_longest(args, args[1:], fillvalue=""):
        option, equals, value = argument.partition("=")
        if option.startswith("--model."):
            yield option.removeprefix("--model."), _parsed(value if equals else following)


def _parsed(text: str) -> Any:  # noqa: ANN401 (whatever YAML has)
    """A value of the command line."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _is_old(name: str, value: Any) -> bool:  # noqa: ANN401 (whatever YAML has)
    is_group = isinstance(value, dict) or str(value).endswith((".yaml", ".yml"))
    return name in RENAMED and not (name in _GROUPS and is_group)
