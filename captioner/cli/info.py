"""``captioner info``: show a checkpoint's model card."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.checkpoint.file_names import ONNX
from captioner.errors import CaptionerError
from captioner.utils.console import printable

if TYPE_CHECKING:
    from captioner.checkpoint import Checkpoint

SUMMARY = "tell what a checkpoint is: size, words, data, scores, licence"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    text = "a checkpoint, or hf://owner/name (default: the embedded one)"
    parser.add_argument("--model", metavar="FILE", action="append", help=text)
    text = "tell of the captions in this language, such as de (default: the model's own)"
    parser.add_argument("--language", metavar="LANGUAGE", help=text)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the model card."""
    from captioner.checkpoint.hub import is_hub_name
    from captioner.checkpoint.pretrained import DEFAULT, checkpoint_of, languages_of
    from captioner.runtime.loading import opens_graphs

    if args.model and len(args.model) > 1:
        raise CaptionerError(f"--model is {' and '.join(args.model)}; info shows one checkpoint at a time")
    model = args.model[0] if args.model else DEFAULT
    path = Path(checkpoint_of(model, opens_graphs(), args.language))
    facts = _exported(path) if path.suffix == ONNX else _checkpoint(path)
    if not is_hub_name(model) and (languages := languages_of(model, opens_graphs())):
        facts = {"file": facts["file"], "languages": list(languages), **facts}
    print(json.dumps(facts) if args.json else "\n".join(map(printable, _lines(facts))))
    return 0


def _exported(path: Path) -> dict[str, Any]:
    """What an exported model says of itself."""
    from captioner.runtime.captioner import OnnxCaptioner

    model = OnnxCaptioner(path)
    known = model.description
    shapes = [_settings(model, model["decoder"], model["transform"]) for model in known.models]
    size = sum(file.stat().st_size for file in model.files)
    return _facts(path, size, known.parameters, known.vocabulary.words, shapes, known.card)


def _checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself, after a look at its weights."""
    from captioner import checkpoint

    members = checkpoint.read_members(path)
    for content in members:
        content.verify()
    # Count each tensor once: members share equal ones.
    weights = {id(value): value for content in members for value in content.weights.values()}.values()
    parameters = sum(value.numel() for value in weights if value.is_floating_point())
    shapes = [_shape(content) for content in members]
    return _facts(path, path.stat().st_size, parameters, members[0].words, shapes, members[0].card)


def _facts(
    path: Path,
    size: int,
    parameters: int,
    words: Sequence[str],
    shapes: Sequence[Mapping[str, Any]],
    card: Mapping[str, Any],
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "file": str(path),
        "size": f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB",
        "parameters": parameters,
        "words": len(words),
        **(shapes[0] if len(shapes) == 1 else {f"model {n}": shape for n, shape in enumerate(shapes, 1)}),
    }
    return facts | {name: value for name, value in card.items() if name not in facts}


def _shape(content: Checkpoint) -> dict[str, Any]:
    """Describe one network."""
    from captioner.models.language_model import LanguageConfig

    config = content.config
    if isinstance(config, LanguageConfig):
        return {"language model of": config.unit, "decoder": asdict(config.decoder)}
    return _settings(vars(config), asdict(config.decoder), asdict(config.transform))


def _settings(config: Mapping[str, Any], decoder: Mapping[str, Any], transform: Mapping[str, Any]) -> dict[str, Any]:
    stage, size = config["encoder_stage"], config["feature_size"]
    return {
        "encoder": config["encoder"] + (f" to {stage}" if stage else ""),
        **({"feature size": size} if size else {}),
        "decoder": decoder,
        "preprocessing": transform,
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
