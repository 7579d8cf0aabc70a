"""Trains the embedded model again from nothing: a frozen CNN, its upper half thrice, rewards; its scores.

    python tools/prepare_flickr8k.py
    python tools/train_embedded.py --output runs/embedded

Each phase is one `captioner train`; stopped at any moment, the same command goes on. Further options of `captioner
train` apply to all, such as ``--data.images ../flickr8k/images``. At the end the folder holds the model, which is the
mean of two runs, with its card, ``captioner.safetensors``, and ``evaluation.json``, its scores on the
test images, which `tools/write_results.py` puts into the README.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml
from write_results import test_scores

from captioner.atomic import replacing
from captioner.cli import main as captioner
from captioner.errors import CaptionerError
from captioner.experiment import train
from captioner.keeping import LAST

CONFIGS = Path(__file__).parents[1] / "configs"
CARD = Path(__file__).with_name("embedded_card.json")


class Phase(NamedTuple):
    """One run of `captioner train`.

    Attributes:
        before: The run whose last epoch it begins with; None begins with nothing. With the learning rate down at 0, a
            beam writes better captions than with the weights of the best greedy epoch (docs/runs.md).
        config: Its configuration.
        changes: What changes in it.
    """

    before: str | None
    config: str
    changes: str = ""


PHASES = {
    "flickr8k": Phase(None, "flickr8k.yaml"),
    "flickr8k_finetune": Phase("flickr8k", "flickr8k_finetune.yaml"),
    "flickr8k_larger": Phase(
        "flickr8k_finetune", "flickr8k_finetune.yaml", "--model.image_size 288 --trainer.max_epochs 8"
    ),
    "flickr8k_fewer": Phase(
        "flickr8k_larger",
        "flickr8k_finetune.yaml",
        "--model.image_size 288 --trainer.max_epochs 6 --model.feature_dropout 0.4 --model.attention_regularization 0",
    ),
    "flickr8k_larger_self_critical": Phase(
        "flickr8k_larger",
        "flickr8k_self_critical.yaml",
        "--model.feature_dropout 0.25 --model.attention_regularization 1 "
        "--data.feature_cache data/flickr8k/larger_features.safetensors",
    ),
    "flickr8k_self_critical": Phase("flickr8k_fewer", "flickr8k_self_critical.yaml"),
}
"""By their folders, in the order in which they are run."""
AVERAGED = ["flickr8k_self_critical", "flickr8k_larger_self_critical"]
"""The runs whose mean, again of their last epochs, is the embedded model."""


def train_phases(output: Path, overrides: Sequence[str]) -> None:
    """Trains what is not trained yet.

    Args:
        output: Folder of the runs, a folder each.
        overrides: Arguments of `captioner train` for all phases.

    Raises:
        CaptionerError: Something of the user's cannot be used.
    """
    for name, phase in PHASES.items():
        folder = output / name
        if not (folder / "captioner.safetensors").exists():
            start = ["--model.start_from", str(output / phase.before / LAST)] if phase.before else []
            resume = ["--resume", str(folder / LAST)] if (folder / LAST).exists() else []
            root = ["--trainer.default_root_dir", str(folder)]
            train(["--config", str(CONFIGS / phase.config), *phase.changes.split(), *start, *overrides, *root, *resume])


def export(averaged: Sequence[Path], target: Path, card: Path) -> None:
    """Writes the mean of runs as the model, with a card.

    Raises:
        CaptionerError: They have none.
    """
    runs = map(str, averaged)
    if captioner(["export", *runs, "--dtype", "int8", "--output", str(target), "--card", str(card)]):
        raise CaptionerError(f"{target}: could not be made of {', '.join(map(str, averaged))}")


def evaluate(model: Path, data: str, images: str) -> dict[str, object]:
    """The scores of a model on the test images, with METEOR where Java is.

    Raises:
        CaptionerError: The images cannot be captioned.
    """
    printed = io.StringIO()
    java = ["--meteor"] if shutil.which("java") else []
    with contextlib.redirect_stdout(printed):
        code = captioner(["evaluate", "--model", str(model), "--data", data, "--images", images, "--json", *java])
    if code:
        raise CaptionerError(f"{model}: could not be evaluated on {data}")
    scores: dict[str, object] = json.loads(printed.getvalue())
    return scores


def main(arguments: Sequence[str]) -> int:
    """Trains, exports and evaluates."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/embedded"), metavar="FOLDER", help="where to work")
    args, overrides = parser.parse_known_args(arguments)
    try:
        train_phases(args.output, overrides)
        averaged = [args.output / name / LAST for name in AVERAGED]
        data = yaml.safe_load(averaged[0].with_name("config.yaml").read_text(encoding="utf-8"))["data"]
        target, card = args.output / "captioner.safetensors", args.output / "card.json"
        export(averaged, target, CARD)
        captions = data["captions"]
        scores = evaluate(target, captions if isinstance(captions, str) else captions[0], data["images"])
        with replacing(args.output / "evaluation.json") as file:
            file.write_text(json.dumps(scores, indent=1), encoding="utf-8")
        described = json.loads(CARD.read_text(encoding="utf-8"))
        card.write_text(json.dumps({**described, "test scores": test_scores(scores)}), encoding="utf-8")
        export(averaged, target, card)
    except CaptionerError as error:
        print(f"train_embedded: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("train_embedded: interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
