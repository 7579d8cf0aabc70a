"""A checkpoint's model card as Markdown."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from captioner.checkpoint import Checkpoint, read_members
from captioner.models.captioner import CaptionerConfig

HEADINGS = {
    "description": "What it is",
    "limits": "What it cannot do",
    "licence": "License",
    "data": "Training data",
    "trained with": "How it was trained",
    "training": "Training run",
    "test scores": "Scores",
    "speed": "Speed",
}
"""Entries of the card that come first, in this order, and their headings; others follow under their own names."""


def model_card(path: str | os.PathLike[str], introduction: Sequence[str]) -> str:
    """Write a checkpoint's card, and what its network is, in Markdown.

    Args:
        path: A checkpoint, of one model or of an ensemble.
        introduction: The lines before it, such as a heading.

    Raises:
        CaptionerError: It cannot be read.
    """
    members = read_members(path)
    card = members[0].card
    lines = [*introduction, ""]
    first = [name for name in HEADINGS if name in card]
    for name in first + [name for name in card if name not in HEADINGS]:
        lines += [f"## {HEADINGS.get(name, name[:1].upper() + name[1:])}", "", *_told(card[name]), ""]
    networks = [_network(member) for member in members]
    shape = networks[0] if len(networks) == 1 else {f"model {n}": each for n, each in enumerate(networks, 1)}
    # Members share tensors that are equal: each counts once.
    weights = {id(value): value for member in members for value in member.weights.values()}.values()
    facts = {
        "size": f"{Path(path).stat().st_size / 1e6:.1f} MB",
        "parameters": sum(value.numel() for value in weights if value.is_floating_point()),
        "words": len(members[0].words),
        **shape,
    }
    return "\n".join([*lines, "## The network", "", *_told(facts), ""])


def _network(content: Checkpoint) -> dict[str, object]:
    config = content.config
    if not isinstance(config, CaptionerConfig):
        return {"language model of": config.unit, "decoder": asdict(config.decoder)}
    return {
        "encoder": config.encoder,
        "feature size": config.feature_size or "that of the encoder",
        "decoder": asdict(config.decoder),
        "preprocessing": asdict(config.transform),
    }


def _told(value: object, indent: str = "") -> list[str]:
    """A value in Markdown: a mapping as a list, all else as it is."""
    if not isinstance(value, Mapping):
        return [_plain(value)]
    lines = []
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            lines += [f"{indent}- {name}:", *_told(inner, indent + "  ")]
        else:
            lines.append(f"{indent}- {name}: {_plain(inner)}")
    return lines


def _plain(value: Any) -> str:  # noqa: ANN401 (a JSON value)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
