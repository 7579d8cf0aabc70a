"""Tells the perplexity of a text to a language model.

    python tools/experiments/perplexity.py runs/language_model/language_model.safetensors ptb.test.txt

Every token is predicted from all before it, the end of each line too: the text is read once from its first line to its
last, the state carried. A token that the vocabulary lacks is <unk>, which is read and predicted like any other.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from captioner import checkpoint
from captioner.data.text_files import read_lines
from captioner.errors import CaptionerError
from captioner.models.language_model import LanguageModel, total_loss
from captioner.text.vocabulary import END, START, UNKNOWN, Vocabulary, split_text
from captioner.training.text_datamodule import ChunkSampler, Stream

CHUNK = 1000
"""Tokens that are read at once, which bounds the memory that their probabilities take."""


class Surprise(NamedTuple):
    """How unexpected a text is.

    Attributes:
        tokens: Tokens, the end of each line included.
        unknown: Those of them that the vocabulary lacks.
        nats: Negative log-probability of all.
    """

    tokens: int
    unknown: int
    nats: float

    @property
    def perplexity(self) -> float:
        """The exponential of the mean negative log-probability of a token."""
        return math.exp(self.nats / self.tokens)


@torch.inference_mode()
def measure(model: LanguageModel, vocabulary: Vocabulary, lines: Sequence[str]) -> Surprise:
    """Read a text as one stream.

    Args:
        model: The language model.
        vocabulary: Its tokens.
        lines: The lines of the text.
    """
    tokens = [split_text(line, model.config.unit) for line in lines]
    stream = Stream([[START, *map(vocabulary.id, line), END] for line in tokens])
    grid = model.nothing(1)
    state, nats, count = model.start(grid), 0.0, 0
    for places in ChunkSampler(stream, 1, CHUNK, shuffle=False):
        chunk = stream[places]
        logits, state = model.decoder.unroll(chunk[:, :-1], state, grid)
        total, counted = total_loss(logits, chunk[:, 1:])
        nats, count = nats + float(total), count + counted
    return Surprise(count, int((stream.ids == UNKNOWN).sum()), nats)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return 0, or 1 on an error."""
    parser = argparse.ArgumentParser(description="Tell the perplexity of a text to a language model.")
    parser.add_argument("model", type=Path, metavar="MODEL", help="language_model.safetensors of a run")
    parser.add_argument("text", type=Path, metavar="FILE", help="text, as for data.held_out_text")
    args = parser.parse_args(argv)
    try:
        found = measure(*checkpoint.read(args.model).build_language_model(), read_lines(args.text))
    except CaptionerError as error:
        print(f"perplexity: {error}", file=sys.stderr)
        return 1
    told = f"perplexity {found.perplexity:.2f}, {math.log2(found.perplexity):.3f} bits a token"
    print(f"{told}, {found.tokens:,} tokens, {found.unknown:,} of them unknown")
    return 0


if __name__ == "__main__":
    sys.exit(main())
