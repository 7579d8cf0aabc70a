"""Writes the README's table of scores from what ``captioner evaluate --meteor --json`` printed, and its first captions.

python tools/embedded/write_results.py docs/embedded_evaluation.json
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
SCORES = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "METEOR", "CIDEr")


def table(scores: Mapping[str, Any]) -> str:
    """The table in Markdown: the embedded model's scores × 100, and below them their 95 % intervals.

    Args:
        scores: What ``captioner evaluate --json`` printed.
    """
    names = [name for name in SCORES if name in scores]
    megabytes = Path(checkpoint_of(DEFAULT)).stat().st_size / 1e6
    intervals = scores["intervals"]
    spans = [
        f"{100 * intervals[name][0]:.1f} to {100 * intervals[name][1]:.1f}" if name in intervals else ""
        for name in names
    ]
    rows = [
        [f"Flickr8k {scores['split']}, {scores['images']:,} images, beam 5", *names],
        ["---"] * (1 + len(names)),
        [f"embedded model ({megabytes:.1f} MB)", *(f"{100 * scores[name]:.1f}" for name in names)],
        ["95 % interval", *spans],
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def test_scores(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The same for the model's card."""
    intervals = {name: [round(bound, 3) for bound in span[:2]] for name, span in scores["intervals"].items()}
    return {
        "data": f"Flickr8k, Karpathy's {scores['images']:,} {scores['split']} images, 5 references each, beam 5",
        **{name: round(scores[name], 4) for name in SCORES if name in scores},
        "95 % intervals": intervals,
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


def main(arguments: Sequence[str]) -> int:
    """Writes both."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    text = "what captioner evaluate printed of the embedded model"
    parser.add_argument("evaluation", type=Path, metavar="EVALUATION.json", help=text)
    parser.add_argument("--readme", type=Path, default=README, metavar="FILE", help="the file to change")
    args = parser.parse_args(arguments)
    try:
        new = table(json.loads(args.evaluation.read_text(encoding="utf-8")))
        text = replace_between(BEGIN, END, args.readme.read_text(encoding="utf-8"), new)
        text = replace_between(BEGIN_PRINTED, END_PRINTED, text, printed())
    except (OSError, ValueError, KeyError) as error:
        print(f"write_results: {args.evaluation} or {args.readme} cannot be used: {error}", file=sys.stderr)
        return 2
    with replacing(args.readme) as file:
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
