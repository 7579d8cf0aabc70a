"""Trains the embedded model again from nothing: a frozen CNN, its upper half thrice, rewards, at last for both.

    python tools/prepare_flickr8k.py
    python tools/train_embedded.py --output runs/embedded

Each phase is one `captioner train`; stopped at any moment, the same command goes on. Further options of `captioner
train` apply to all, such as ``--data.images ../flickr8k/images``. At the end the folder holds the model with its card,
``captioner.safetensors``, and ``evaluation.json``, its scores on the test images, which
`tools/write_results.py` puts into the README.
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
        before: The step whose weights it begins with; None begins with nothing.
        config: Its configuration.
        changes: What changes in it.
    """

    before: str | None
    config: str
    changes: str = ""


class Mean(NamedTuple):
    """The mean of the weights of two steps, better than each of them (docs/runs.md)."""

    of: tuple[str, str]


JOINT = (
    "--model.train_encoder_from blocks.3 --model.encoder_learning_rate 1e-5 --model.learning_rate 1e-4 "
    "--trainer.max_epochs 4 --data.feature_cache null --data.crop 0.7 --data.jitter 0.4 --data.erase 0.3"
)
"""Rewards for the CNN as well, gently, on photographs that vary."""

STEPS: dict[str, Phase | Mean] = {
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
    "flickr8k_mean": Mean(("flickr8k_self_critical", "flickr8k_larger_self_critical")),
    "flickr8k_joint": Phase("flickr8k_mean", "flickr8k_self_critical.yaml", JOINT),
    "flickr8k_joint_mean": Mean(("flickr8k_mean", "flickr8k_joint")),
}
"""By their names, in the order in which they are made."""
EMBEDDED = "flickr8k_joint_mean"


def weights(output: Path, name: str) -> Path:
    """Where a step leaves its weights.

    A run's are those of its last epoch: with the learning rate down at 0, a beam writes better captions than with the
    weights of the best greedy epoch (docs/runs.md).
    """
    return output / f"{name}.safetensors" if isinstance(STEPS[name], Mean) else output / name / LAST


def make_steps(output: Path, overrides: Sequence[str]) -> None:
    """Makes what is not made yet.

    Args:
        output: Folder of the runs, a folder each, and of their means, a file each.
        overrides: Arguments of `captioner train` for all phases.

    Raises:
        CaptionerError: Something of the user's cannot be used.
    """
    for name, step in STEPS.items():
        made = weights(output, name)
        if isinstance(step, Mean):
            if not made.exists():
                export([weights(output, one) for one in step.of], made)
        elif not made.with_name("captioner.safetensors").exists():
            start = ["--model.start_from", str(weights(output, step.before))] if step.before else []
            resume = ["--resume", str(made)] if made.exists() else []
            root = ["--trainer.default_root_dir", str(made.parent)]
            train(["--config", str(CONFIGS / step.config), *step.changes.split(), *start, *overrides, *root, *resume])


def export(sources: Sequence[Path], target: Path, *options: str) -> None:
    """Writes the mean of checkpoints.

    Raises:
        CaptionerError: They have none.
    """
    if captioner(["export", *map(str, sources), "--output", str(target), *options]):
        raise CaptionerError(f"{target}: could not be made of {', '.join(map(str, sources))}")


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
        make_steps(args.output, overrides)
        embedded, run = weights(args.output, EMBEDDED), weights(args.output, "flickr8k")
        data = yaml.safe_load(run.with_name("config.yaml").read_text(encoding="utf-8"))["data"]
        target, card = args.output / "captioner.safetensors", args.output / "card.json"
        export([embedded], target, "--dtype", "int8", "--card", str(CARD))
        captions = data["captions"]
        scores = evaluate(target, captions if isinstance(captions, str) else captions[0], data["images"])
        with replacing(args.output / "evaluation.json") as file:
            file.write_text(json.dumps(scores, indent=1), encoding="utf-8")
        described = json.loads(CARD.read_text(encoding="utf-8"))
        card.write_text(json.dumps({**described, "test scores": test_scores(scores)}), encoding="utf-8")
        export([embedded], target, "--dtype", "int8", "--card", str(card))
    except CaptionerError as error:
        print(f"train_embedded: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("train_embedded: interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
