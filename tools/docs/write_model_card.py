"""Writes MODEL_CARD.md from the card inside the embedded checkpoint.

python tools/docs/write_model_card.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from captioner.checkpoint.pretrained import DEFAULT, checkpoint_of
from captioner.export.card import model_card
from captioner.utils.files import replacing

PAGE = Path(__file__).parents[2] / "MODEL_CARD.md"
INTRODUCTION = (
    "# Model card: the embedded captioner",
    "",
    "Written by `python tools/docs/write_model_card.py` from the checkpoint itself, as `captioner info` tells it.",
)


def card() -> str:
    """The model card in Markdown."""
    return model_card(checkpoint_of(DEFAULT), INTRODUCTION)


def main(arguments: Sequence[str]) -> int:
    """Writes the card."""
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    with replacing(PAGE) as file:
        file.write_text(card(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
