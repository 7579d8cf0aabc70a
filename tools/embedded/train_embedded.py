"""Trains the embedded model again from nothing: CNN and decoder, twice, then rewards; its confidence and its scores.

    python tools/data/prepare_everyday.py --everyday DIR --more DIR --flickr8k DIR
    python tools/data/make_nonphotos.py data/nonphotos/fit
    python tools/embedded/train_embedded.py --text captions.jsonl.gz --nonphotos data/nonphotos/fit

Each phase is one `captioner train`; stopped at any moment, the same command goes on. Further options of `captioner
train` apply to all. At the end the folder holds the model with its card, ``captioner.safetensors``, and
``evaluation.json``, its scores on the test images, which `tools/embedded/write_results.py` puts into the README.
Between the phases, rare words get vectors from text (`rare_words`), and feature vectors become shorter
(`captioner.checkpoint.low_rank`); after them the decoder is let copy more of what the CNN's classifier sees
(`copy_classes`).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from copy_classes import open_copying_for
from rare_words import fill, read_texts
from write_results import test_scores

from captioner import checkpoint
from captioner.checkpoint.low_rank import measure_second_moment, project_to_low_rank
from captioner.cli import main as captioner
from captioner.data.caption_files import read_records
from captioner.data.filters import with_pictures
from captioner.data.records import Record
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
        before: The run or step whose model it begins with; None begins with nothing.
        config: Its configuration.
        changes: Options that differ from it.
    """

    before: str | None
    config: str
    changes: str = ""


class Filled(NamedTuple):
    """A run's last epoch with vectors for rare words from text (`rare_words`).

    Attributes:
        run: The run.
    """

    run: str


class Shortened(NamedTuple):
    """A run's last epoch with shorter feature vectors (`captioner.checkpoint.low_rank`).

    Attributes:
        run: The run, some of whose images are measured.
        size: Length of the vectors to come.
    """

    run: str
    size: int


Part = Phase | Filled | Shortened

PHASES: Mapping[str, Part] = {
    "everyday": Phase(None, "everyday.yaml"),
    "everyday_filled": Filled("everyday"),
    "everyday_again": Phase(
        "everyday_filled",
        "everyday.yaml",
        "--seed_everything 4 --model.optimizer.learning_rate 8e-4 --model.optimizer.encoder_learning_rate 2.5e-4 "
        "--model.optimizer.warmup_steps 100",
    ),
    "everyday_short": Shortened("everyday_again", 512),
    "everyday_rewarded": Phase("everyday_short", "everyday/rewarded.yaml"),
}
"""By their folders, in the order in which they are run."""
END = "everyday_rewarded"
"""The run that makes the model."""
CARD = Path(__file__).with_name("embedded_card.json")


def train_phases(phases: Mapping[str, Part], output: Path, texts: Sequence[Path], overrides: Sequence[str]) -> None:
    """Trains what is not trained yet.

    Args:
        phases: The runs and the steps between them.
        output: Their folder, in which each has one.
        texts: Captions without pictures, as JSON lines.
        overrides: Arguments of `captioner train` for all runs.

    Raises:
        CaptionerError: Something of the user's cannot be used.
    """
    for name, phase in phases.items():
        folder = output / name
        if (folder / WHOLE).exists():
            continue
        if isinstance(phase, Phase):
            before = _made(output, phases, phase.before) if phase.before else None
            start = ["--model.start.checkpoint", before, "--data.vocabulary_from", before] if before else []
            resume = ["--resume", str(folder / LAST)] if (folder / LAST).exists() else []
            root = ["--trainer.default_root_dir", str(folder)]
            config = ["--config", str(CONFIGS / phase.config), *phase.changes.split()]
            train([*config, *start, *overrides, *root, *resume])
        else:
            folder.mkdir(parents=True, exist_ok=True)
            made = _fill(output, phase, texts) if isinstance(phase, Filled) else _shorten(output, phase)
            checkpoint.write(folder / WHOLE, made)


def _made(output: Path, phases: Mapping[str, Part], name: str) -> str:
    """The file that a phase leaves for others."""
    return str(output / name / (LAST if isinstance(phases[name], Phase) else WHOLE))


def _fill(output: Path, filled: Filled, texts: Sequence[Path]) -> checkpoint.Checkpoint:
    captions = [caption for record in _records(output / filled.run) for caption in record.captions]
    return fill(checkpoint.read(output / filled.run / LAST), captions, read_texts(texts))


def _shorten(output: Path, shortened: Shortened) -> checkpoint.Checkpoint:
    whole = checkpoint.read(output / shortened.run / LAST)
    records = _records(output / shortened.run)
    chosen = random.Random(1).sample(records, min(len(records), _IMAGES_MEASURED))
    seen = [record.image for record in with_pictures(chosen, Skipped(output, most=1))]
    return project_to_low_rank(whole, shortened.size, measure_second_moment(whole, seen))


def _finish(run: Path) -> checkpoint.Checkpoint:
    """A run's last epoch, which copies more of what the CNN's classifier sees, if there is one."""
    whole = checkpoint.read(run / LAST)
    return open_copying_for(whole, _records(run)) if whole.config.decoder.concept_classes else whole


def _records(run: Path) -> list[Record]:
    """The training images of a run; it has told what cannot be used."""
    data = _data(run)
    captions, images = _first(data), data["images"] and Path(data["images"])
    return read_records(
        captions, images, None, anywhere=data["images_anywhere"], wanted=["train"], skipped=Skipped(captions, most=1)
    )


def _trained(run: Path) -> dict[str, Any]:
    """What a run learned from, and how, for the card."""
    card = checkpoint.read(run / LAST).card
    return {**card["data"], **card["training"]}


def _data(run: Path) -> dict[str, Any]:
    """What a run learned from, as its configuration has it."""
    data: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["data"]
    return data


def _first(data: Mapping[str, Any]) -> Path:
    """The first of the caption files."""
    captions = data["captions"]
    return Path(captions if isinstance(captions, str) else captions[0])


def _arguments(data: Mapping[str, Any]) -> list[str]:
    """Arguments that name what a run learned from."""
    images = ["--images", data["images"]] if data["images"] else []
    anywhere = ["--images-anywhere"] if data["images_anywhere"] else []
    return ["--data", str(_first(data)), *images, *anywhere]


def calibrate(model: Path, data: Mapping[str, Any], nonphotos: Path) -> None:
    """Fits a model's confidence on the validation images, and writes the model with it.

    Raises:
        CaptionerError: The images cannot be captioned.
    """
    chosen = ["--model", str(model), "--output", str(model), "--nonphotos", str(nonphotos)]
    if captioner(["calibrate", *chosen, *_arguments(data)]):
        raise CaptionerError(f"{model}: could not be calibrated on {_first(data)} and {nonphotos}")


def evaluate(model: Path, data: Mapping[str, Any]) -> dict[str, object]:
    """The scores of a model on the test images, with METEOR where Java is.

    Raises:
        CaptionerError: The images cannot be captioned.
    """
    printed = io.StringIO()
    java = ["--meteor"] if shutil.which("java") else []
    with contextlib.redirect_stdout(printed):
        chosen = ["--model", str(model), "--precision", "float32", *_arguments(data)]
        code = captioner(["evaluate", *chosen, "--naming", "--json", *java])
    if code:
        raise CaptionerError(f"{model}: could not be evaluated on {_first(data)}")
    scores: dict[str, object] = json.loads(printed.getvalue())
    return scores


def main(arguments: Sequence[str]) -> int:
    """Trains, exports and evaluates."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/embedded"), metavar="FOLDER", help="where to work")
    parser.add_argument("--text", type=Path, nargs="*", default=[], metavar="FILE", help="captions without pictures")
    text = "pictures that are no photographs (tools/data/make_nonphotos.py); without them captions have no confidence"
    parser.add_argument("--nonphotos", type=Path, metavar="DIR", help=text)
    args, overrides = parser.parse_known_args(arguments)
    target, card = args.output / WHOLE, json.loads(CARD.read_text(encoding="utf-8"))
    try:
        train_phases(PHASES, args.output, args.text, overrides)
        card["phases"] = {
            name: _trained(args.output / name) for name, part in PHASES.items() if isinstance(part, Phase)
        }
        whole = _finish(args.output / END)
        checkpoint.write(target, replace(whole, card={**whole.card, **card}), dtype=torch.int8)
        data = _data(args.output / END)
        if args.nonphotos is not None:
            calibrate(target, data, args.nonphotos)
            whole = checkpoint.read(target)
        scores = evaluate(target, data)
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
