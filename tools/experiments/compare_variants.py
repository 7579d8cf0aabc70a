"""Trains variants of a model with equal data and budget, and writes a table of their scores.

    python tools/experiments/compare_variants.py --config configs/flickr8k.yaml --epochs 10
    python tools/experiments/compare_variants.py --config configs/language_model.yaml --epochs 10 --seeds 1

The configuration's task decides what is compared. Each captioner of configs/sweeps/variants.yaml, or each language
model of configs/sweeps/language_variants.yaml, is trained by `captioner train` with every seed, all with the first seed
before any with the second. With its best epoch a captioner captions the validation images; of a language model that
epoch's perplexity is told. Further options of `captioner train` apply to all, such as ``--data.images ../flickr8k``;
what a variant says itself goes before them.

``results.json`` in the output folder records what is finished, and ``table.md`` is written anew after each run. Stopped
at any moment, the same command goes on: what is finished is skipped, what had begun is resumed from its last
checkpoint. With more seeds or variants it adds theirs. The epoch is chosen on the images, or the text, that the
scores are of, so that these compare variants with each other and not with others' test scores.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple, TypeAlias

import yaml
from examine import examine_captioner, examine_language_model

from captioner.errors import CaptionerError
from captioner.training.checkpointing import LAST
from captioner.training.run import task_of, train
from captioner.training.run_arguments import read_configurations
from captioner.training.tasks import TASKS, best_mode
from captioner.utils.files import replacing

CONFIGS = Path(__file__).parents[2] / "configs"

Results: TypeAlias = "dict[str, dict[str, Any]]"
"""By run, such as ``lstm/seed-1``: its ``plan``, and its ``outcome``, None before it is finished."""


class Column(NamedTuple):
    """A column of the table.

    Attributes:
        score: What it shows of an outcome.
        title: Its head.
        form: How a number is written.
        factor: By which it is multiplied.
    """

    score: str
    title: str
    form: str = ".1f"
    factor: float = 1


@dataclass(frozen=True)
class Contest:
    """How the variants of a task are compared.

    Attributes:
        variants: The file that names them, where none is given.
        output: The folder, where none is given.
        examine: Measures a finished run; it is given the run's folder and the width of the beam.
        columns: Two scores, of which the first decides who is best, and a speed.
    """

    variants: Path
    output: Path
    examine: Callable[[Path, int], Mapping[str, float]]
    columns: tuple[Column, Column, Column]


CONTESTS = {
    "captioning": Contest(
        CONFIGS / "sweeps" / "variants.yaml",
        Path("runs/variants"),
        examine_captioner,
        (
            Column("CIDEr", "CIDEr × 100", factor=100),
            Column("BLEU-4", "BLEU-4 × 100", factor=100),
            Column("captions_per_second", "captions/s, without the encoder"),
        ),
    ),
    "language_model": Contest(
        CONFIGS / "sweeps" / "language_variants.yaml",
        Path("runs/language_variants"),
        lambda run, _: examine_language_model(run),
        (
            Column("perplexity", "perplexity", ".2f"),
            Column("bits", "bits per token", ".3f"),
            Column("tokens_per_second", "tokens/s, training", ",.0f"),
        ),
    ),
}
"""By the task; the names are those of `captioner.training.tasks.TASKS`."""


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        name: The variant and the seed, such as ``lstm/seed-1``: its folder in the output folder.
        plan: What it depends on: the configuration's name and checksum, the arguments that change it, and the beam.
    """

    name: str
    plan: Mapping[str, Any]


def read_variants(path: Path) -> dict[str, list[str]]:
    """Reads a file of variants.

    Args:
        path: YAML, ``name: {option of captioner train: value}``.

    Returns:
        For each name the arguments for `captioner train`.

    Raises:
        CaptionerError: The file cannot be read, or holds something else.
    """
    content = parse_yaml(read(path), path)
    if not isinstance(content, dict) or not content:
        raise CaptionerError(f"{path}: names no variants; write lines such as gru: {{model.decoder.cell: gru}}")
    for name, changes in content.items():
        if not re.fullmatch(r"[\w-]+", str(name)):
            raise CaptionerError(f"{path}: {name!r} cannot be the name of a folder; use letters, digits, _ and -")
        if not isinstance(changes, dict):
            raise CaptionerError(f"{path}: {name} changes {changes!r}; write {{model.decoder.cell: gru}} or {{}}")
    return {
        str(name): [text for key, value in changes.items() for text in (f"--{key}", written(value))]
        for name, changes in content.items()
    }


def written(value: object) -> str:
    """A value of a YAML file as a word of a command line."""
    return value if isinstance(value, str) else json.dumps(value)


def read(path: Path) -> str:
    """The text of a file.

    Raises:
        CaptionerError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CaptionerError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def parse_yaml(text: str, path: Path) -> object:
    """The content of a YAML file.

    Raises:
        CaptionerError: It is none.
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CaptionerError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error


def read_results(path: Path) -> Results:
    """Reads what earlier calls have recorded.

    Raises:
        CaptionerError: The file is damaged.
    """
    try:
        results: Results = json.loads(read(path))
    except ValueError as error:
        raise CaptionerError(f"{path}: is damaged ({error}); fix it, or name another --output") from error
    return results


def planned(args: argparse.Namespace, overrides: Sequence[str]) -> Iterator[Run]:
    """All runs, in their order: a table of few seeds is worth more than one of few variants."""
    checksum = hashlib.sha256(read(args.config).encode()).hexdigest()[:12]
    # Nobody ends early: the budget is equal, and the best epoch is taken in any case.
    budget = ["--trainer.max_epochs", str(args.epochs), "--early_stopping.patience", str(args.epochs)]
    variants = read_variants(args.variants)
    for seed in args.seeds:
        for name, changes in variants.items():
            arguments = [*overrides, *changes, *budget, "--seed_everything", str(seed)]
            plan = {"config": f"{args.config.name} {checksum}", "arguments": arguments, "beam_size": args.beam_size}
            yield Run(f"{name}/seed-{seed}", plan)


def refuse_other_plans(runs: Sequence[Run], results: Results, task: str, file: Path) -> None:
    """Holds what is to be done against what has been.

    Raises:
        CaptionerError: A run of the same name was planned otherwise, or what is finished is of another task.
    """
    score = CONTESTS[task].columns[0].score
    if any(result["outcome"] is not None and score not in result["outcome"] for result in results.values()):
        raise CaptionerError(f"{file}: has runs of another task than {task}; name another --output")
    for run in runs:
        old = results.get(run.name, {"plan": run.plan})["plan"]
        for key, value in run.plan.items():
            if old[key] != value:
                raise CaptionerError(
                    f"{file}: {run.name} was begun with another {key} ({old[key]}); name another --output"
                )


def carry_out(run: Run, args: argparse.Namespace, results: Results, task: str) -> None:
    """Trains and examines one run, and records it.

    Raises:
        CaptionerError: Something of the user's cannot be used.
    """
    folder = args.output / run.name
    begun = run.name in results and (folder / LAST).exists()
    results[run.name] = {"plan": run.plan, "outcome": None}
    record(results, args.output, task)
    resume = ["--resume", str(folder / LAST)] if begun else []
    root = ["--trainer.default_root_dir", str(folder)]
    train(["--config", str(args.config), *run.plan["arguments"], *root, *resume])
    gc.collect()  # trainer and model hold each other; a night of runs would hold them all
    results[run.name]["outcome"] = CONTESTS[task].examine(folder, args.beam_size)
    record(results, args.output, task)


def record(results: Results, folder: Path, task: str) -> None:
    """Writes the results and their table."""
    with replacing(folder / "results.json") as temporary:
        temporary.write_text(json.dumps(results, indent=1), encoding="utf-8")
    with replacing(folder / "table.md") as temporary:
        temporary.write_text(table(results, task), encoding="utf-8")


def table(results: Results, task: str) -> str:
    """What is finished as a table in Markdown, the best first; mean ± standard deviation over the seeds."""
    outcomes: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    for name, result in results.items():
        if result["outcome"] is not None:
            outcomes[name.split("/")[0]].append(result["outcome"])
    first, second, speed = CONTESTS[task].columns
    heads = ("variant", first.title, second.title, "seeds", "decoder's parameters", speed.title)
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    best_is_highest = best_mode(TASKS[task].score) == "max"
    ranked = sorted(
        outcomes.items(), key=lambda item: mean(one[first.score] for one in item[1]), reverse=best_is_highest
    )
    for name, each in ranked:
        one, other, rate = (
            spread([outcome[c.score] * c.factor for outcome in each], c.form) for c in (first, second, speed)
        )
        cells = (name, one, other, len(each), f"{each[0]['parameters']:,}", rate)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def spread(values: Sequence[float], form: str) -> str:
    """Mean and, of several, standard deviation."""
    numbers = (mean(values), stdev(values)) if len(values) > 1 else values
    return " ± ".join(format(number, form) for number in numbers)


def compare(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Carries out what is not finished; returns the number of runs that failed."""
    arguments = ["--config", str(args.config), *overrides]
    task = task_of(read_configurations(arguments), arguments)
    args.variants = args.variants or CONTESTS[task].variants
    args.output = args.output or CONTESTS[task].output
    file = args.output / "results.json"
    results = read_results(file) if file.exists() else {}
    runs = list(planned(args, overrides))
    refuse_other_plans(runs, results, task, file)
    failed = 0
    for number, run in enumerate(runs, start=1):
        if results.get(run.name, {}).get("outcome") is not None:
            continue
        print(f"{run.name} ({number} of {len(runs)})", file=sys.stderr, flush=True)
        try:
            carry_out(run, args, results, task)
        except CaptionerError as error:  # the others may well work, and a night is long
            print(f"{run.name}: {error}", file=sys.stderr, flush=True)
            failed += 1
    print(table(results, task), end="")
    return failed


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns 0, 1 when a run failed, 2 for wrong use, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        description="Compare variants of a captioner, or of a language model; further options go to captioner train.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="what all variants share")
    for option, metavar, default in (
        (
            "--variants",
            "FILE",
            "configs/sweeps/variants.yaml, or configs/sweeps/language_variants.yaml for language models",
        ),
        ("--output", "DIR", "runs/variants, or runs/language_variants"),
    ):
        parser.add_argument(option, type=Path, metavar=metavar, help=f"(default: {default})")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N", help="(default: 1 2 3)")
    parser.add_argument("--epochs", type=int, default=10, metavar="N", help="of each run (default: %(default)s)")
    parser.add_argument(
        "--beam-size", type=int, default=3, metavar="N", help="of captions; 1 is greedy (default: %(default)s)"
    )
    args, overrides = parser.parse_known_args(argv)
    try:
        return 1 if compare(args, overrides) else 0
    except CaptionerError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
