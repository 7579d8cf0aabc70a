"""Adds to a captioner what further training changed of another one: what rewards taught need not be learned again.

    python tools/experiments/add_change.py last.ckpt --before short.safetensors --after rewarded.safetensors \
        --share 0.75 --output changed.safetensors

Differences of weights, added to other weights of the same network (Ilharco et al., "Editing models with task
arithmetic", ICLR 2023), of the decoder alone. The two files may see shortened feature vectors
(`captioner.checkpoint.low_rank`) where the first sees whole ones.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from captioner import checkpoint
from captioner.checkpoint import Checkpoint
from captioner.errors import CaptionerError
from captioner.models.encoder import PROJECTION

_DECODER = "decoder."


def add_change(base: Checkpoint, before: Checkpoint, after: Checkpoint, share: float) -> Checkpoint:
    """Add a share of what changed between two captioners to a third.

    Args:
        base: The captioner that is changed, with whole feature vectors.
        before: A captioner of the same shape, with whole or shortened feature vectors.
        after: The same, trained further with the same projection.
        share: Factor of the differences.

    Returns:
        The captioner with other weights of its decoder.

    Raises:
        CaptionerError: The vocabularies or the shapes differ.
    """
    if not base.words == before.words == after.words:
        raise CaptionerError(f"{base.origin}: the three vocabularies differ; start all runs from one")
    projection = before.weights.get(f"encoder.{PROJECTION}.weight")
    weights = dict(base.weights)
    for name, value in base.weights.items():
        if not (name.startswith(_DECODER) and value.is_floating_point()):
            continue
        change = after.weights[name].float() - before.weights[name].float()
        if change.shape != value.shape and projection is not None:
            change = change @ projection.float()  # its columns multiply the projected vectors
        if change.shape != value.shape:
            raise CaptionerError(f"{base.origin}: {name} has shape {tuple(value.shape)}, not {tuple(change.shape)}")
        weights[name] = value.float() + share * change
    return replace(base, weights=weights)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read three files and write one."""
    parser = argparse.ArgumentParser(description="Add what training changed of one captioner to another.")
    parser.add_argument("base", type=Path, help="checkpoint that is changed")
    parser.add_argument("--before", type=Path, required=True, metavar="FILE")
    parser.add_argument("--after", type=Path, required=True, metavar="FILE")
    parser.add_argument("--share", type=float, default=1.0, metavar="X", help="of the differences (default: 1)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    args = parser.parse_args(arguments)
    try:
        read = [checkpoint.read(path) for path in (args.base, args.before, args.after)]
        checkpoint.write(args.output, add_change(read[0], read[1], read[2], args.share))
    except CaptionerError as error:
        print(f"add_change.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
