"""Writes MODEL_CARD.md from the card inside the embedded checkpoint.

python tools/docs/write_model_card.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from captioner import checkpoint
from captioner.checkpoint.pretrained import DEFAULT, checkpoint_of
from captioner.models.captioner import CaptionerConfig
from captioner.utils.files import replacing

PAGE = Path(__file__).parents[2] / "MODEL_CARD.md"
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


def card() -> str:
    """The model card in Markdown."""
    path = Path(checkpoint_of(DEFAULT))
    content = checkpoint.read(path)
    assert isinstance(content.config, CaptionerConfig)
    config = content.config
    facts: dict[str, object] = {
        "size": f"{path.stat().st_size / 1e6:.1f} MB",
        "parameters": sum(value.numel() for value in content.weights.values() if value.is_floating_point()),
        "words": len(content.words),
        "encoder": config.encoder,
        "feature size": config.feature_size or "that of the encoder",
        "decoder": asdict(config.decoder),
        "preprocessing": asdict(config.transform),
    }
    lines = [
        "# Model card: the embedded captioner",
        "",
        "Written by `python tools/docs/write_model_card.py` from the checkpoint itself, as `captioner info` tells it.",
        "",
    ]
    first = [name for name in HEADINGS if name in content.card]
    for name in first + [name for name in content.card if name not in HEADINGS]:
        lines += [f"## {HEADINGS.get(name, name[:1].upper() + name[1:])}", "", *_told(content.card[name]), ""]
    return "\n".join([*lines, "## The network", "", *_told(facts), ""])


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


def main(arguments: Sequence[str]) -> int:
    """Writes the card."""
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    with replacing(PAGE) as file:
        file.write_text(card(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
