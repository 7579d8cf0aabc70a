"""Trains the embedded model again from nothing: a frozen CNN, then all of it, rewards, teachers; its scores.

    python tools/data/prepare_flickr8k.py
    python tools/embedded/train_embedded.py --output runs/embedded

Each phase is one `captioner train`; stopped at any moment, the same command goes on. Further options of `captioner
train` apply to all, such as ``--data.images ../flickr8k/images``. At the end the folder holds the model with its card,
``captioner.safetensors``, and ``evaluation.json``, its scores on the test images, which
`tools/embedded/write_results.py` puts into the README. The mean of two rewarded runs, four decoders on one CNN, teaches
one of these what it knows.
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
from typing import Any, NamedTuple

import torch
import yaml
from write_results import test_scores

from captioner import checkpoint
from captioner.checkpoint.low_rank import measure_second_moment, project_to_low_rank
from captioner.checkpoint.merge import average, select_members
from captioner.checkpoint.quantization import round_weights
from captioner.cli import main as captioner
from captioner.data.caption_files import read_records
from captioner.data.filters import with_pictures
from captioner.data.skip_report import Skipped
from captioner.errors import CaptionerError
from captioner.training.checkpointing import LAST
from captioner.training.run import train
from captioner.utils.files import replacing

CONFIGS = Path(__file__).parents[2] / "configs"
WHOLE = "captioner.safetensors"
"""What a run that has come to its end leaves beside its last checkpoint, and what all ends in."""
_IMAGES_MEASURED = 1000
"""Of those for training, how many tell what feature vectors are like."""


class Phase(NamedTuple):
    """One run of `captioner train`.

    Attributes:
        before: The runs whose last epochs it begins with, one, or one for each member; none begins with nothing. With
            the learning rate down at 0, a beam writes better captions than with the weights of the best greedy epoch
            (docs/runs.md).
        config: Its configuration.
        changes: What changes in it.
        teachers: What teaches it.
    """

    before: Sequence[str]
    config: str
    changes: str = ""
    teachers: Sequence[str] = ()


class Mean(NamedTuple):
    """The mean of runs' last epochs (of one run: it), where another run begins, or which teaches it.

    Attributes:
        runs: The runs.
        members: Which members of its decoder stay, from 0; none stands for all.
        rounded: What the names of kernels begin with that are rounded to eight bits, as matrices are anyway.
    """

    runs: Sequence[str]
    members: Sequence[int] = ()
    rounded: str | None = None


class Shortened(NamedTuple):
    """A run's last epoch with shorter feature vectors (`captioner.checkpoint.low_rank`), where another run begins.

    Attributes:
        run: The run.
        size: Their length.
    """

    run: str
    size: int


Part = Phase | Mean | Shortened

_FOUR = "--model.decoder.members 4"


def _rewarded(run: str, seed: int, epochs: int) -> dict[str, Part]:
    """Four members and their rewards, on the last epoch of a run, on the kernels in eight bits."""
    return {
        f"{run}_rounded": Mean([run], rounded="encoder"),
        f"{run}_rewarded": Phase(
            [f"{run}_rounded"],
            "flickr8k/self_critical.yaml",
            f"--seed_everything {seed} --trainer.max_epochs {epochs} {_FOUR} --model.noise.feature_dropout 0.3 "
            f"--data.feature_cache data/flickr8k/{run}_features.safetensors",
        ),
    }


_BASES = {
    f"flickr8k_{seed}": Phase([], "flickr8k.yaml", f"--seed_everything {seed} --trainer.max_epochs 9")
    for seed in (21, 22, 23, 24)
}
_WHOLE_CNN = f"{_FOUR} --model.encoder.unfreeze_from conv_stem"
_BOTH = ["flickr8k_more_rewarded", "flickr8k_longer_rewarded"]
_HEAD = "encoder.trunk.conv_head"
_TAUGHT = "--model.self_critical.weight 0.9333 --model.distillation.weight 0.357"
PHASES: Mapping[str, Part] = {
    **_BASES,
    "flickr8k_members": Phase(["flickr8k_21", "flickr8k_22"], "flickr8k/members.yaml"),
    "flickr8k_first": Mean(["flickr8k_members"], [0]),
    "flickr8k_second": Mean(["flickr8k_members"], [1]),
    "flickr8k_more": Phase(
        ["flickr8k_first", "flickr8k_second", "flickr8k_23", "flickr8k_24"],
        "flickr8k/members.yaml",
        f"--seed_everything 23 --trainer.max_epochs 10 {_FOUR}",
    ),
    **_rewarded("flickr8k_more", seed=23, epochs=5),
    "flickr8k_whole": Phase(
        ["flickr8k_more"], "flickr8k/members.yaml", f"--seed_everything 25 --trainer.max_epochs 3 {_WHOLE_CNN}"
    ),
    "flickr8k_longer": Phase(
        ["flickr8k_whole"], "flickr8k/members.yaml", f"--seed_everything 26 --trainer.max_epochs 6 {_WHOLE_CNN}"
    ),
    **_rewarded("flickr8k_longer", seed=26, epochs=6),
    "flickr8k_four": Mean(_BOTH, rounded=_HEAD),
    "flickr8k_one": Mean(_BOTH, [0], _HEAD),
    "flickr8k_taught": Phase(
        ["flickr8k_one"],
        "flickr8k/self_critical.yaml",
        f"--seed_everything 35 --trainer.max_epochs 4 {_TAUGHT} --model.noise.feature_dropout 0.3 "
        "--data.feature_cache data/flickr8k/flickr8k_four_features.safetensors",
        ["flickr8k_four"],
    ),
    "flickr8k_short": Shortened("flickr8k_taught", 512),
    "flickr8k_short_taught": Phase(
        ["flickr8k_short"],
        "flickr8k/self_critical.yaml",
        # Teachers with longer vectors have to look for themselves, and of shorter ones none can be spared.
        f"--seed_everything 38 --trainer.max_epochs 2 {_TAUGHT} --model.encoder.feature_size 512 "
        "--model.optimizer.learning_rate 1e-4 --model.noise.feature_dropout 0 --data.feature_cache null",
        ["flickr8k_four"],
    ),
}
"""By their folders, in the order in which they are run."""
END = "flickr8k_short_taught"
"""The run that makes the model."""
CARD = Path(__file__).with_name("embedded_card.json")


def train_phases(phases: Mapping[str, Part], output: Path, overrides: Sequence[str]) -> None:
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
        if not isinstance(phase, Phase):
            folder.mkdir(parents=True, exist_ok=True)
            made = _average(output, phase) if isinstance(phase, Mean) else _shorten(output, phase)
            checkpoint.write(folder / WHOLE, made)
        else:
            starts, teachers = ([_made(output, phases, run) for run in runs] for runs in (phase.before, phase.teachers))
            first = starts[0] if len(starts) == 1 else json.dumps(starts)
            start = ["--model.start.checkpoint", first] if starts else []
            taught = ["--model.distillation.teachers", json.dumps(teachers)] if teachers else []
            resume = ["--resume", str(folder / LAST)] if (folder / LAST).exists() else []
            root = ["--trainer.default_root_dir", str(folder)]
            config = ["--config", str(CONFIGS / phase.config), *phase.changes.split()]
            train([*config, *start, *taught, *overrides, *root, *resume])


def _made(output: Path, phases: Mapping[str, Part], name: str) -> str:
    """The file that a phase leaves for others."""
    return str(output / name / (LAST if isinstance(phases[name], Phase) else WHOLE))


def _average(output: Path, mean: Mean) -> checkpoint.Checkpoint:
    whole = average([checkpoint.read(output / run / LAST) for run in mean.runs])
    if mean.rounded is not None:
        kernels = {n: round_weights(v) for n, v in whole.weights.items() if v.ndim > 2 and n.startswith(mean.rounded)}
        whole = replace(whole, weights={**whole.weights, **kernels})
    return select_members(whole, mean.members) if mean.members else whole


def _shorten(output: Path, shortened: Shortened) -> checkpoint.Checkpoint:
    whole = checkpoint.read(output / shortened.run / LAST)
    data = _data(output / shortened.run)
    captions, images = _first(data), data["images"] and Path(data["images"])
    splits = data["splits"] and Path(data["splits"])
    skipped = Skipped(captions, most=1)  # the run has told what cannot be used
    found = read_records(captions, images, splits, None, data["images_anywhere"], ["train"], skipped)
    seen = [record.image for record in with_pictures(found[:_IMAGES_MEASURED], skipped)]
    return project_to_low_rank(whole, shortened.size, measure_second_moment(whole, seen))


def _data(run: Path) -> dict[str, Any]:
    """What a run learned from, as its configuration has it."""
    data: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["data"]
    return data


def _first(data: Mapping[str, Any]) -> Path:
    """The first of the caption files."""
    captions = data["captions"]
    return Path(captions if isinstance(captions, str) else captions[0])


def evaluate(model: Path, captions: Path, images: str | None) -> dict[str, object]:
    """The scores of a model on the test images, with METEOR where Java is.

    Raises:
        CaptionerError: The images cannot be captioned.
    """
    printed = io.StringIO()
    java = ["--meteor"] if shutil.which("java") else []
    with contextlib.redirect_stdout(printed):
        chosen = ["--model", str(model), "--data", str(captions), "--precision", "float32"]
        chosen += ["--images", images] if images else []
        code = captioner(["evaluate", *chosen, "--json", *java])
    if code:
        raise CaptionerError(f"{model}: could not be evaluated on {captions}")
    scores: dict[str, object] = json.loads(printed.getvalue())
    return scores


def main(arguments: Sequence[str]) -> int:
    """Trains, exports and evaluates."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/embedded"), metavar="FOLDER", help="where to work")
    args, overrides = parser.parse_known_args(arguments)
    target, card = args.output / WHOLE, json.loads(CARD.read_text(encoding="utf-8"))
    try:
        train_phases(PHASES, args.output, overrides)
        whole = checkpoint.read(args.output / END / LAST)
        checkpoint.write(target, replace(whole, card={**whole.card, **card}), dtype=torch.int8)
        data = _data(args.output / END)
        scores = evaluate(target, _first(data), data["images"])
        with replacing(args.output / "evaluation.json") as file:
            file.write_text(json.dumps(scores, indent=1), encoding="utf-8")
        card["test scores"] = test_scores(scores)
        checkpoint.write(target, replace(whole, card={**whole.card, **card}), dtype=torch.int8)
    except CaptionerError as error:
        print(f"train_embedded: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("train_embedded: interrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
