"""Trains an embedded model again from nothing: a frozen CNN, its upper half, rewards; its scores.

    python tools/prepare_flickr8k.py
    python tools/train_embedded.py --output runs/embedded
    python tools/train_embedded.py --small --output runs/small

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
from collections.abc import Mapping, Sequence
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


class Phase(NamedTuple):
    """One run of `captioner train`.

    Attributes:
        before: The runs whose last epochs it begins with, one, or one for each member; none begins with nothing. With
            the learning rate down at 0, a beam writes better captions than with the weights of the best greedy epoch
            (docs/runs.md).
        config: Its configuration.
        changes: What changes in it.
    """

    before: Sequence[str]
    config: str
    changes: str = ""


class Recipe(NamedTuple):
    """How a model is made.

    Attributes:
        phases: By their folders, in the order in which they are run.
        averaged: The runs whose mean, again of their last epochs, is the model.
        card: What is to be known of it.
    """

    phases: Mapping[str, Phase]
    averaged: Sequence[str]
    card: Path


_BASES = {
    f"flickr8k_{seed}": Phase([], "flickr8k.yaml", f"--seed_everything {seed} --trainer.max_epochs 9")
    for seed in (11, 12, 13)
}
_MEMBERS = "--model.decoder.members 3 --trainer.max_epochs 4"
EMBEDDED = Recipe(
    {
        **_BASES,
        "flickr8k_members": Phase([*_BASES], "flickr8k_members.yaml"),
        "flickr8k_varied_self_critical": Phase(
            ["flickr8k_members"],
            "flickr8k_self_critical.yaml",
            f"{_MEMBERS} --seed_everything 11 --data.feature_cache null --data.crop 0.7 --data.jitter 0.4 "
            "--data.erase 0.3",
        ),
        "flickr8k_self_critical": Phase(
            ["flickr8k_members"],
            "flickr8k_self_critical.yaml",
            f"{_MEMBERS} --seed_everything 12 --model.feature_dropout 0.3 "
            "--data.feature_cache data/flickr8k/members_features.safetensors",
        ),
    },
    ("flickr8k_varied_self_critical", "flickr8k_self_critical"),
    Path(__file__).with_name("embedded_card.json"),
)
SMALL = Recipe(
    {
        "flickr8k": Phase([], "flickr8k.yaml"),
        "flickr8k_finetune": Phase(["flickr8k"], "flickr8k_finetune.yaml"),
        "flickr8k_larger": Phase(
            ["flickr8k_finetune"], "flickr8k_finetune.yaml", "--model.image_size 288 --trainer.max_epochs 8"
        ),
        "flickr8k_fewer": Phase(
            ["flickr8k_larger"],
            "flickr8k_finetune.yaml",
            "--model.image_size 288 --trainer.max_epochs 6 --model.feature_dropout 0.4 "
            "--model.attention_regularization 0",
        ),
        "flickr8k_larger_self_critical": Phase(
            ["flickr8k_larger"],
            "flickr8k_self_critical.yaml",
            "--model.feature_dropout 0.25 --model.attention_regularization 1 "
            "--data.feature_cache data/flickr8k/larger_features.safetensors",
        ),
        "flickr8k_self_critical": Phase(["flickr8k_fewer"], "flickr8k_self_critical.yaml"),
    },
    ("flickr8k_self_critical", "flickr8k_larger_self_critical"),
    Path(__file__).with_name("small_card.json"),
)


def train_phases(phases: Mapping[str, Phase], output: Path, overrides: Sequence[str]) -> None:
    """Trains what is not trained yet.

    Args:
        phases: The runs.
        output: Their folder, in which each has one.
        overrides: Arguments of `captioner train` for all phases.

    Raises:
        CaptionerError: Something of the user's cannot be used.
    """
    for name, phase in phases.items():
        folder = output / name
        if not (folder / "captioner.safetensors").exists():
            starts = [str(output / run / LAST) for run in phase.before]
            start = ["--model.start_from", starts[0] if len(starts) == 1 else json.dumps(starts)] if starts else []
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
    parser.add_argument("--small", action="store_true", help="the small model")
    args, overrides = parser.parse_known_args(arguments)
    recipe = SMALL if args.small else EMBEDDED
    try:
        train_phases(recipe.phases, args.output, overrides)
        averaged = [args.output / name / LAST for name in recipe.averaged]
        data = yaml.safe_load(averaged[0].with_name("config.yaml").read_text(encoding="utf-8"))["data"]
        target, card = args.output / "captioner.safetensors", args.output / "card.json"
        export(averaged, target, recipe.card)
        captions = data["captions"]
        scores = evaluate(target, captions if isinstance(captions, str) else captions[0], data["images"])
        with replacing(args.output / "evaluation.json") as file:
            file.write_text(json.dumps(scores, indent=1), encoding="utf-8")
        described = json.loads(recipe.card.read_text(encoding="utf-8"))
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
