"""``captioner info``: show a checkpoint's model card."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.errors import CaptionerError
from captioner.utils.console import printable

if TYPE_CHECKING:
    from captioner.checkpoint import Checkpoint

SUMMARY = "tell what a checkpoint is: size, words, data, scores, licence"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("--model", metavar="FILE", action="append", help="a checkpoint (default: the embedded one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the model card."""
    from captioner import checkpoint
    from captioner.checkpoint.pretrained import DEFAULT, checkpoint_of

    if args.model and len(args.model) > 1:
        raise CaptionerError(f"--model is {' and '.join(args.model)}; info shows one checkpoint at a time")
    path = Path(checkpoint_of(args.model[0] if args.model else DEFAULT))
    members = checkpoint.read_members(path)
    for content in members:
        content.verify()
    # Count each tensor once: members share equal ones.
    weights = {id(value): value for content in members for value in content.weights.values()}.values()
    size = path.stat().st_size
    facts: dict[str, Any] = {
        "file": str(path),
        "size": f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB",
        "parameters": sum(value.numel() for value in weights if value.is_floating_point()),
        "words": len(members[0].words),
        **(_shape(members[0]) if len(members) == 1 else {f"model {n}": _shape(m) for n, m in enumerate(members, 1)}),
    }
    facts |= {name: value for name, value in members[0].card.items() if name not in facts}
    print(json.dumps(facts) if args.json else "\n".join(map(printable, _lines(facts))))
    return 0


def _shape(content: Checkpoint) -> dict[str, Any]:
    """Describe one network."""
    from captioner.models.language_model import LanguageConfig

    config = content.config
    if isinstance(config, LanguageConfig):
        return {"language model of": config.unit, "decoder": asdict(config.decoder)}
    return {
        "encoder": config.encoder + (f" to {config.encoder_stage}" if config.encoder_stage else ""),
        **({"feature size": config.feature_size} if config.feature_size else {}),
        "decoder": asdict(config.decoder),
        "preprocessing": asdict(config.transform),
    }


def _lines(facts: Mapping[str, Any], indent: str = "") -> list[str]:
    lines = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{name}", *_lines(value, indent + "  ")]
        elif isinstance(value, (list, tuple)):
            lines.append(f"{indent}{name}: {', '.join(map(str, value))}")
        else:
            lines.append(f"{indent}{name}: {value}")
    return lines
