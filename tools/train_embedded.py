"""Trains an embedded model again from nothing: a frozen CNN, its upper half, rewards; its scores.

    python tools/prepare_flickr8k.py
    python tools/train_embedded.py --output runs/embedded
    python tools/train_embedded.py --small --output runs/small

Each phase is one `captioner train`; stopped at any moment, the same command goes on. Further options of `captioner
train` apply to all, such as ``--data.images ../flickr8k/images``. At the end the folder holds the model with its card,
``captioner.safetensors``, and ``evaluation.json``, its scores on the test images, which `tools/write_results.py` puts
into the README. The small model is the mean of two runs, the embedded one an ensemble of that and of two decoders on a
CNN of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from write_results import test_scores

from captioner import checkpoint
from captioner.atomic import replacing
from captioner.cli import main as captioner
from captioner.errors import CaptionerError
from captioner.experiment import train
from captioner.keeping import LAST
from captioner.quantisation import round_weights
from captioner.soup import average, select_members, together

CONFIGS = Path(__file__).parents[1] / "configs"
WHOLE = "captioner.safetensors"
"""What a run that has come to its end leaves beside its last checkpoint, and what all ends in."""


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


class Mean(NamedTuple):
    """The mean of runs' last epochs, where another run begins or which is a model of an ensemble.

    Attributes:
        runs: The runs.
        members: Which members of its decoder stay, from 0; none stands for all.
        rounded: Whether the CNN's kernels are rounded to eight bits, as matrices are anyway: a fifth less to keep.
    """

    runs: Sequence[str]
    members: Sequence[int] = ()
    rounded: bool = False


class Recipe(NamedTuple):
    """How a model is made.

    Attributes:
        phases: By their folders, in the order in which they are run.
        parts: Of one part, a model; of several, an ensemble.
        card: What is to be known of it.
    """

    phases: Mapping[str, Phase | Mean]
    parts: Sequence[Mean]
    card: Path


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
    [Mean(["flickr8k_self_critical", "flickr8k_larger_self_critical"], rounded=True)],
    Path(__file__).with_name("small_card.json"),
)
_BASES = {
    f"flickr8k_{seed}": Phase([], "flickr8k.yaml", f"--seed_everything {seed} --trainer.max_epochs 9")
    for seed in (11, 12, 13)
}
_CACHED = (
    "--model.decoder.members 3 --model.feature_dropout 0.3 "
    "--data.feature_cache data/flickr8k/members_features.safetensors"
)
EMBEDDED = Recipe(
    {
        **SMALL.phases,
        **_BASES,
        "flickr8k_members": Phase([*_BASES], "flickr8k_members.yaml"),
        "flickr8k_members_varied": Phase(
            ["flickr8k_members"],
            "flickr8k_self_critical.yaml",
            "--seed_everything 11 --trainer.max_epochs 3 --model.decoder.members 3 --data.feature_cache null "
            "--data.crop 0.7 --data.jitter 0.4 --data.erase 0.3",
        ),
        "flickr8k_members_cached": Phase(
            ["flickr8k_members"],
            "flickr8k_self_critical.yaml",
            f"--seed_everything 12 --trainer.max_epochs 3 {_CACHED}",
        ),
        "flickr8k_members_mean": Mean(["flickr8k_members_varied", "flickr8k_members_cached"]),
        "flickr8k_members_self_critical": Phase(
            ["flickr8k_members_mean"],
            "flickr8k_self_critical.yaml",
            f"--seed_everything 13 --trainer.max_epochs 2 {_CACHED}",
        ),
    },
    # With the third member, the file would have more than 40 MB.
    [Mean(["flickr8k_members_self_critical"], [0, 2]), *SMALL.parts],
    Path(__file__).with_name("embedded_card.json"),
)


def train_phases(phases: Mapping[str, Phase | Mean], output: Path, overrides: Sequence[str]) -> None:
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
        if (folder / WHOLE).exists():
            continue
        if isinstance(phase, Mean):
            folder.mkdir(parents=True, exist_ok=True)
            checkpoint.write(folder / WHOLE, _read(output, phase))
        else:
            starts = [str(output / run / (WHOLE if isinstance(phases[run], Mean) else LAST)) for run in phase.before]
            start = ["--model.start_from", starts[0] if len(starts) == 1 else json.dumps(starts)] if starts else []
            resume = ["--resume", str(folder / LAST)] if (folder / LAST).exists() else []
            root = ["--trainer.default_root_dir", str(folder)]
            train(["--config", str(CONFIGS / phase.config), *phase.changes.split(), *start, *overrides, *root, *resume])


def write(recipe: Recipe, output: Path, target: Path, card: Mapping[str, object]) -> None:
    """Writes what the runs have made as one file, with a card.

    Raises:
        CaptionerError: They have left nothing that can be read.
    """
    first, *others = together([_read(output, part) for part in recipe.parts])
    checkpoint.write(target, replace(first, card={**first.card, **card}), *others, dtype=torch.int8)


def _read(output: Path, mean: Mean) -> checkpoint.Checkpoint:
    whole = average([checkpoint.read(output / run / LAST) for run in mean.runs])
    if mean.rounded:
        kernels = {name: round_weights(value) for name, value in whole.weights.items() if value.ndim > 2}
        whole = replace(whole, weights={**whole.weights, **kernels})
    return select_members(whole, mean.members) if mean.members else whole


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
    target, card = args.output / WHOLE, json.loads(recipe.card.read_text(encoding="utf-8"))
    try:
        train_phases(recipe.phases, args.output, overrides)
        run = args.output / recipe.parts[0].runs[0]
        data = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["data"]
        captions = data["captions"]
        write(recipe, args.output, target, card)
        scores = evaluate(target, captions if isinstance(captions, str) else captions[0], data["images"])
        with replacing(args.output / "evaluation.json") as file:
            file.write_text(json.dumps(scores, indent=1), encoding="utf-8")
        write(recipe, args.output, target, {**card, "test scores": test_scores(scores)})
    except CaptionerError as error:
        print(f"train_embedded: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("train_embedded: interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
