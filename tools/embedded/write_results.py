"""Writes the README's table of scores from outputs of ``captioner evaluate --naming --json``, and its first captions.

    python tools/embedded/write_results.py "COCO val2017=coco.json" "Flickr8k test=flickr8k.json"

The embedded model's evaluations are ``docs/embedded_coco.json`` and ``docs/embedded_flickr8k.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captioner import load
from captioner.checkpoint.pretrained import DEFAULT, checkpoint_of
from captioner.utils.files import replacing

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- written by tools/embedded/write_results.py -->\n", "<!-- end -->\n"
BEGIN_PRINTED = "<!-- printed by captioner caption data/samples, written by tools/embedded/write_results.py -->\n"
END_PRINTED = "<!-- end of what is printed -->\n"
SAMPLES = README.parent / "data" / "samples"
SCORES = ("BLEU-4", "METEOR", "CIDEr")
NAMING = ("CHAIRi", "recall", "precision")


def table(evaluations: Mapping[str, Mapping[str, Any]]) -> str:
    """The table in Markdown: the embedded model's scores × 100 with 95 % intervals, one row for each set of images.

    Args:
        evaluations: What ``captioner evaluate --json`` printed, by name of the images.
    """
    megabytes = Path(checkpoint_of(DEFAULT)).stat().st_size / 1e6
    header = [f"embedded model ({megabytes:.1f} MB), beam 5", *SCORES, *NAMING]
    rows = [header, ["---"] * len(header)]
    for name, scores in evaluations.items():
        naming = scores.get("naming", {})
        cells = [*(_cell(scores, score) for score in SCORES), *(_cell(naming, score) for score in NAMING)]
        rows.append([f"{name}, {scores['images']:,} images", *cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(scores: Mapping[str, Any], name: str) -> str:
    if scores.get(name) is None:  # of no thing that is named there is no share
        return ""
    value, interval = f"{100 * scores[name]:.1f}", scores["intervals"].get(name)
    return value if not interval else f"{value} ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"


def test_scores(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The scores on one set of images, for the model's card."""
    every = {**scores, **scores.get("naming", {})}
    spans = {**scores["intervals"], **scores.get("naming", {}).get("intervals", {})}
    return {
        "images": f"{scores['images']:,} of split {scores['split']}, beam 5",
        **{name: round(every[name], 4) for name in (*SCORES, *NAMING) if every.get(name) is not None},
        "95 % intervals": {name: [round(bound, 3) for bound in span[:2]] for name, span in spans.items() if span},
    }


def printed() -> str:
    """What ``captioner caption data/samples`` prints, as a block of Markdown; computed in float32."""
    photographs = sorted(SAMPLES.glob("*.jpg"))
    captions = load().caption(photographs)
    lines = [f"data/samples/{path.name}\t{caption.text}" for path, caption in zip(photographs, captions, strict=True)]
    return "\n".join(["```text", *lines, "```", ""])


def replace_between(begin: str, end: str, text: str, new: str) -> str:
    """A text with what stands between two marks replaced.

    Raises:
        ValueError: The marks are not there.
    """
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"the marks {begin.strip()} and {end.strip()} are missing")
    return f"{before}{begin}{new}{end}{after}"


def _named(given: str) -> tuple[str, str]:
    name, found, file = given.partition("=")
    if not found:
        raise argparse.ArgumentTypeError(f"{given!r} is not of the form NAME=EVALUATION.json")
    return name, file


def main(arguments: Sequence[str]) -> int:
    """Writes both."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    text = "name of the images, and what captioner evaluate printed of the embedded model"
    parser.add_argument("evaluations", nargs="+", type=_named, metavar="NAME=EVALUATION.json", help=text)
    parser.add_argument("--readme", type=Path, default=README, metavar="FILE", help="the file to change")
    args = parser.parse_args(arguments)
    try:
        new = table({name: json.loads(Path(file).read_text(encoding="utf-8")) for name, file in args.evaluations})
        text = replace_between(BEGIN, END, args.readme.read_text(encoding="utf-8"), new)
        text = replace_between(BEGIN_PRINTED, END_PRINTED, text, printed())
    except (OSError, ValueError, KeyError) as error:
        print(f"write_results: the evaluations or {args.readme} cannot be used: {error}", file=sys.stderr)
        return 2
    with replacing(args.readme) as file:
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
