"""Trains an embedded model again from nothing: a frozen CNN, its upper half, all of it, rewards; its scores.

    python tools/prepare_flickr8k.py
    python tools/train_embedded.py --output runs/embedded
    python tools/train_embedded.py --small --output runs/small

Each phase is one `captioner train`; stopped at any moment, the same command goes on. Further options of `captioner
train` apply to all, such as ``--data.images ../flickr8k/images``. At the end the folder holds the model with its card,
``captioner.safetensors``, and ``evaluation.json``, its scores on the test images, which `tools/write_results.py` puts
into the README. Either model is the mean of two runs; the embedded one has four decoders on its CNN.
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
from captioner.soup import average, select_members

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
    """The mean of runs' last epochs (of one run: it), where another run begins or all ends.

    Attributes:
        runs: The runs.
        members: Which members of its decoder stay, from 0; none stands for all.
        rounded: What the names of kernels begin with that are rounded to eight bits, as matrices are anyway.
    """

    runs: Sequence[str]
    members: Sequence[int] = ()
    rounded: str | None = None


class Recipe(NamedTuple):
    """How a model is made.

    Attributes:
        phases: By their folders, in the order in which they are run.
        end: What they make.
        card: What is to be known of it.
    """

    phases: Mapping[str, Phase | Mean]
    end: Mean
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
    Mean(["flickr8k_self_critical", "flickr8k_larger_self_critical"], rounded="encoder"),
    Path(__file__).with_name("small_card.json"),
)
_FOUR = "--model.decoder.members 4"


def _rewarded(run: str, seed: int, epochs: int) -> dict[str, Phase | Mean]:
    """Four members and their rewards, on the last epoch of a run, on the kernels in eight bits."""
    return {
        f"{run}_rounded": Mean([run], rounded="encoder"),
        f"{run}_rewarded": Phase(
            [f"{run}_rounded"],
            "flickr8k_self_critical.yaml",
            f"--seed_everything {seed} --trainer.max_epochs {epochs} {_FOUR} --model.feature_dropout 0.3 "
            f"--data.feature_cache data/flickr8k/{run}_features.safetensors",
        ),
    }


_BASES = {
    f"flickr8k_{seed}": Phase([], "flickr8k.yaml", f"--seed_everything {seed} --trainer.max_epochs 9")
    for seed in (21, 22, 23, 24)
}
_WHOLE_CNN = f"{_FOUR} --model.train_encoder_from conv_stem"
EMBEDDED = Recipe(
    {
        **_BASES,
        "flickr8k_members": Phase(["flickr8k_21", "flickr8k_22"], "flickr8k_members.yaml"),
        "flickr8k_first": Mean(["flickr8k_members"], [0]),
        "flickr8k_second": Mean(["flickr8k_members"], [1]),
        "flickr8k_more": Phase(
            ["flickr8k_first", "flickr8k_second", "flickr8k_23", "flickr8k_24"],
            "flickr8k_members.yaml",
            f"--seed_everything 23 --trainer.max_epochs 10 {_FOUR}",
        ),
        **_rewarded("flickr8k_more", seed=23, epochs=5),
        "flickr8k_whole": Phase(
            ["flickr8k_more"], "flickr8k_members.yaml", f"--seed_everything 25 --trainer.max_epochs 3 {_WHOLE_CNN}"
        ),
        "flickr8k_longer": Phase(
            ["flickr8k_whole"], "flickr8k_members.yaml", f"--seed_everything 26 --trainer.max_epochs 6 {_WHOLE_CNN}"
        ),
        **_rewarded("flickr8k_longer", seed=26, epochs=6),
    },
    # With all kernels in float16, the file would have more than 40 MB.
    Mean(["flickr8k_more_rewarded", "flickr8k_longer_rewarded"], rounded="encoder.trunk.conv_head"),
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
    whole = _read(output, recipe.end)
    checkpoint.write(target, replace(whole, card={**whole.card, **card}), dtype=torch.int8)


def _read(output: Path, mean: Mean) -> checkpoint.Checkpoint:
    whole = average([checkpoint.read(output / run / LAST) for run in mean.runs])
    if mean.rounded is not None:
        kernels = {n: round_weights(v) for n, v in whole.weights.items() if v.ndim > 2 and n.startswith(mean.rounded)}
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
        chosen = ["--model", str(model), "--data", data, "--images", images, "--precision", "float32"]
        code = captioner(["evaluate", *chosen, "--json", *java])
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
        run = args.output / recipe.end.runs[0]
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
