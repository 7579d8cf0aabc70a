"""``captioner info``: what a checkpoint is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from captioner.cli.terminal import printable

SUMMARY = "tell what a checkpoint is: size, words, data, scores, licence"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("--model", metavar="FILE", help="a checkpoint (default: the embedded one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints the model card."""
    from captioner import checkpoint
    from captioner.model import CaptionerConfig
    from captioner.pipeline import embedded_checkpoint

    path = Path(args.model or embedded_checkpoint())
    content = checkpoint.read(path)
    content.verify()
    config, size = content.config, path.stat().st_size
    if isinstance(config, CaptionerConfig):
        shape = {
            "encoder": config.encoder + (f" to {config.encoder_stage}" if config.encoder_stage else ""),
            "decoder": asdict(config.decoder),
            "preprocessing": asdict(config.transform),
        }
    else:
        shape = {"language model of": config.unit, "decoder": asdict(config.decoder)}
    facts: dict[str, Any] = {
        "file": str(path),
        "size": f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB",
        "parameters": sum(value.numel() for value in content.weights.values() if value.is_floating_point()),
        "words": len(content.words),
        **shape,
        **content.card,
    }
    print(json.dumps(facts) if args.json else "\n".join(map(printable, _lines(facts))))
    return 0


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
