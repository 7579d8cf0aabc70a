"""BLEU, ROUGE-L and CIDEr-D from raw text against the official code with its Java tokeniser, on the same captions."""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import time
from pathlib import Path
from typing import TypeAlias

from captioner.metrics import score
from captioner.metrics.coco_files import read_references

SUMMARY = "scores of a corpus in images a second"

Candidates: TypeAlias = "dict[int | str, str]"
References: TypeAlias = "dict[int | str, list[str]]"

OFFICIAL_NAMES = {"BLEU-1": 0, "BLEU-2": 1, "BLEU-3": 2, "BLEU-4": 3}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The section's arguments."""
    parser.add_argument(
        "--references", required=True, metavar="REFS.json", help="COCO annotations, such as captions_val2017.json"
    )
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="runs of each, in turn; the fastest counts")


def measure(args: argparse.Namespace) -> list[dict[str, str | float]]:
    """Times both in turn on captions made from the references.

    Raises:
        AssertionError: The scores differ by more than 1e-10.
    """
    references = read_references(Path(args.references)).captions
    candidates = make_candidates(references)
    times: dict[str, list[float]] = {"pycocoevalcap": [], "captioner": []}
    for _ in range(args.repeats):
        for name, run in (("pycocoevalcap", official), ("captioner", score)):
            start = time.perf_counter()
            scores = run(candidates, references)
            times[name].append(time.perf_counter() - start)
            if name == "pycocoevalcap":
                expected = scores
        assert all(abs(scores[key] - expected[key]) < 1e-10 for key in expected), (scores, expected)
    slowest = min(times["pycocoevalcap"])
    return [
        {"scorer": name, "seconds": min(each), "images/s": len(references) / min(each), "speed-up": slowest / min(each)}
        for name, each in times.items()
    ]


def make_candidates(references: References) -> Candidates:
    """A caption an image: one of its references with a word replaced by one of another image."""
    chance = random.Random(1)
    groups = list(references.values())
    candidates = {}
    for image, group in references.items():
        words = chance.choice(group).split()
        words[chance.randrange(len(words))] = chance.choice(chance.choice(groups)[0].split())
        candidates[image] = " ".join(words)
    return candidates


def official(candidates: Candidates, references: References) -> dict[str, float]:
    """The same work by pycocoevalcap."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    with contextlib.redirect_stdout(io.StringIO()):
        tokenizer = PTBTokenizer()
        wanted = tokenizer.tokenize({key: [{"caption": c} for c in group] for key, group in references.items()})
        given = tokenizer.tokenize({key: [{"caption": caption}] for key, caption in candidates.items()})
        bleu = Bleu(4).compute_score(wanted, given)[0]
        rouge = Rouge().compute_score(wanted, given)[0]
        cider = Cider().compute_score(wanted, given)[0]
    return {**{name: bleu[place] for name, place in OFFICIAL_NAMES.items()}, "ROUGE-L": rouge, "CIDEr": cider}
