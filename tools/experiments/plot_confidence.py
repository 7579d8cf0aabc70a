"""Draws the reliability and the risk–coverage curve of a model's confidence.

captioner evaluate --model M --data FILE --confidence --json > confidence.json
python tools/experiments/plot_confidence.py confidence.json docs/confidence.png
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from captioner.errors import CaptionerError
from captioner.utils.files import replacing


def draw(confidence: Mapping[str, Any]) -> Figure:
    """Both curves side by side.

    Args:
        confidence: The object of that name which ``captioner evaluate --confidence --json`` prints.
    """
    figure = Figure(figsize=(9, 4), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    bins, curve = confidence["reliability"], confidence["risk coverage"]
    left.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="perfectly calibrated")
    left.bar([each["low"] for each in bins], [each["right"] for each in bins], 0.1, align="edge", alpha=0.35)
    left.plot([each["confidence"] for each in bins], [each["right"] for each in bins], "o-", label="captions")
    for each in bins:
        left.annotate(str(each["captions"]), (each["low"] + 0.05, 0.01), ha="center", fontsize=7, color="0.35")
    left.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share that names nothing wrong")
    left.set_title(f"reliability, expected calibration error {confidence['calibration error']:.3f}")
    left.legend(loc="upper left", frameon=False)
    for name, label in (("CHAIRi", "wrong things of those named (CHAIRi)"), ("CHAIRs", "wrong captions (CHAIRs)")):
        points = [(each["coverage"], each[name]) for each in curve if each[name] is not None]
        right.plot(*zip(*points, strict=True), "o-", markersize=3, label=label)
    right.axvline(confidence["usual"]["coverage"], color="0.7", linewidth=1)
    right.set(xlim=(0, 1.02), xlabel="share of captions kept, the surest first", title="risk and coverage")
    right.set_ylim(bottom=0)
    right.legend(loc="upper left", frameon=False)
    return figure


def read(file: Path) -> Mapping[str, Any]:
    """The measured confidence of a file.

    Raises:
        CaptionerError: It has none.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        confidence: Mapping[str, Any] = content["confidence"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CaptionerError(
            f"{file}: holds no confidence; give what captioner evaluate --confidence --json prints"
        ) from error
    return confidence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns 0, or 2 for wrong use."""
    parser = argparse.ArgumentParser(description="Draw the reliability and the risk–coverage curve.")
    parser.add_argument("confidence", type=Path, help="what captioner evaluate --confidence --json prints")
    parser.add_argument("output", type=Path, help="the PNG to write")
    args = parser.parse_args(argv)
    try:
        content = io.BytesIO()
        draw(read(args.confidence)).savefig(content, format="png")
        with replacing(args.output) as temporary:
            temporary.write_bytes(content.getvalue())
    except CaptionerError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
