"""Draws how gradients vanish and explode in the recurrence of each cell, at the start and after training.

    python tools/experiments/gradient_flow.py flow.png --text captions.jsonl.gz --json flow.json

Small language models of the project's own decoder read captions in a row, 60 words long: an RNN, the same with its W_h
scaled up, a GRU and an LSTM. Each begins as the project initialises it and learns for some steps with AdamW, once as it
comes and once with its gradient clipped. The figure shows ‖∂loss_T / ∂h_t‖ against the distance T - t (Pascanu et al.,
2013, "On the difficulty of training recurrent neural networks"), the gradient and the loss of the explosive RNN as it
learns, and the gates of the LSTM word by word.

Without ``--text`` the captions are those of tools/data/make_shapes.py, so that no data is needed.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import itertools
import json
import math
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from gradient_figure import draw
from gradients import GATES, gate_values, gradient_norms, largest_singular_value, no_pictures

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from make_shapes import RELATIONS, arrange, combinations
from torch import Tensor

from captioner.errors import CaptionerError
from captioner.models.decoder import Decoder, DecoderConfig
from captioner.text.vocabulary import END, START, Vocabulary
from captioner.training.objectives.words import word_loss
from captioner.utils.files import replacing

MOST_CAPTIONS = 8000
"""Captions that are read: enough words for some hundred steps."""

MOST_HELD_OUT = 64
"""Sequences, of a tenth of all, on which gradients are measured and which nothing learns from."""

GATE_WORDS = 20
"""Words over which gates are shown: the end of a caption and the beginning of the next are among them."""


def read_captions(path: Path) -> list[str]:
    """The first captions of a file.

    Args:
        path: One caption a line; or, named .jsonl, one object with a list ``captions`` a line. Either may end in .gz.

    Raises:
        CaptionerError: It cannot be read so.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as lines:
            each = (_captions(line) for line in lines) if ".jsonl" in path.suffixes else ([line] for line in lines)
            return list(itertools.islice(filter(str.strip, itertools.chain.from_iterable(each)), MOST_CAPTIONS))
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise CaptionerError(
            f'{path}: cannot be read ({error}); give one caption a line, or lines {{"captions": [...]}} in a .jsonl'
        ) from error


def _captions(line: str) -> list[str]:
    captions: list[str] = json.loads(line)["captions"]
    return captions


def shape_captions(seed: int) -> list[str]:
    """Captions of generated pictures, which need not be drawn."""
    randomness = random.Random(seed)
    pairs = combinations(randomness)["train"]
    chosen = (randomness.choice(pairs) for _ in range(MOST_CAPTIONS))
    return [arrange(pair, randomness.choice(RELATIONS), 224, randomness).caption for pair in chosen]


def sequences(captions: Sequence[str], vocabulary: Vocabulary, words: int) -> Tensor:
    """Captions one after another, each with its END, cut into pieces.

    Returns:
        Word ids, START first, shape (pieces, words + 1).

    Raises:
        CaptionerError: There are fewer than ten pieces.
    """
    ids = [id_ for caption in captions for id_ in vocabulary.encode(caption)[1:]]
    pieces = len(ids) // words
    if pieces < 10:
        raise CaptionerError(f"the text has {len(ids)} words, less than 10 sequences of {words}; add text")
    cut = torch.tensor(ids[: pieces * words]).view(pieces, words)
    return torch.cat([torch.full((pieces, 1), START), cut], dim=1)


def train(decoder: Decoder, pieces: Tensor, clip: float | None, args: argparse.Namespace) -> dict[str, list[float]]:
    """Teaches a language model for some steps.

    Args:
        decoder: It.
        pieces: Word ids, shape (pieces, words + 1).
        clip: Greatest norm of a step's gradient; None for any.
        args: ``steps``, ``batch_size`` and ``learning_rate``.

    Returns:
        The loss and the norm of the gradient, before it is clipped, of each step.

    Raises:
        CaptionerError: The loss is no longer finite.
    """
    optimizer = torch.optim.AdamW(decoder.parameters(), args.learning_rate, weight_decay=0)
    losses, norms = [], []
    for step in range(args.steps):
        batch = pieces[torch.randint(len(pieces), (args.batch_size,))]
        loss = word_loss(decoder(no_pictures(len(batch)), batch.unsqueeze(1)))
        if not torch.isfinite(loss):
            raise CaptionerError(f"the loss of step {step} is {loss.item()}; lower --scale or --learning-rate")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(decoder.parameters(), math.inf if clip is None else clip)
        optimizer.step()
        losses.append(loss.item())
        norms.append(norm.item())
    return {"losses": losses, "gradient_norms": norms}


def measure(decoder: Decoder, pieces: Tensor) -> dict[str, Any]:
    """The median gradient norms over sequences, by distance, and the largest singular value of W_h."""
    exact = copy.deepcopy(decoder).double()  # what vanishes would be 0 in float32
    norms = gradient_norms(exact, pieces).median(dim=1).values
    return {
        "largest_singular_value": largest_singular_value(exact),
        **dict(zip(("h", "c"), norms.tolist(), strict=False)),
    }


def measure_gates(decoder: Decoder, unseen: Tensor, vocabulary: Vocabulary) -> dict[str, Any]:
    """The gates of an LSTM on the sequence in which the end of a caption stands nearest the middle of what is shown."""
    ends = (unseen == END).int().argmax(dim=1)
    words = unseen[(ends - GATE_WORDS // 2).abs().argmin(), 1 : GATE_WORDS + 1]
    values = dict(zip(GATES, gate_values(decoder, words).tolist(), strict=True))
    return {"words": [vocabulary.words[word] for word in words.tolist()], **values}


def runs(pieces: Tensor, vocabulary: Vocabulary, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Trains and measures every cell, without clipping and with it."""
    held_out = min(MOST_HELD_OUT, len(pieces) // 10)
    unseen, pieces = pieces[:held_out], pieces[held_out:]
    explosive = f"RNN, $W_h$ × {args.scale:g}"
    cells = (("RNN", "rnn", 1.0), (explosive, "rnn", args.scale), ("GRU", "gru", 1.0), ("LSTM", "lstm", 1.0))
    for name, cell, scale in cells:
        for clip in (None, args.clip):
            print(f"{cell}, W_h × {scale:g}, {f'clipped at {clip:g}' if clip else 'not clipped'}", file=sys.stderr)
            torch.manual_seed(args.seed)
            size = args.hidden_size
            config = DecoderConfig(cell, "none", "none", size, size, dropout=0.0)  # type: ignore[arg-type]
            decoder = Decoder(config, 0, len(vocabulary))
            with torch.no_grad():
                decoder.core.cells.weights(0)[1].mul_(scale)
            run: dict[str, Any] = {"name": name, "cell": cell, "scale": scale, "clip": clip}
            run["initial"] = measure(decoder, unseen)
            run |= train(decoder, pieces, clip, args)
            run["trained"] = measure(decoder, unseen)
            if cell == "lstm":
                run["gates"] = measure_gates(decoder, unseen, vocabulary)
            yield run


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns 0, or 2 for wrong use."""
    parser = argparse.ArgumentParser(description="Draw how gradients flow through recurrent cells.")
    parser.add_argument("figure", type=Path, help="where to draw, such as flow.png")
    parser.add_argument("--text", type=Path, metavar="FILE", help="captions, a line each, or .jsonl; .gz as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers")
    for flag, kind, default, text in (
        ("--words", int, 60, "length of a sequence"),
        ("--hidden-size", int, 64, "length of h and of word vectors"),
        ("--scale", float, 2.0, "what multiplies W_h of the explosive RNN"),
        ("--clip", float, 1.0, "greatest norm of a clipped gradient"),
        ("--steps", int, 200, "steps of training"),
        ("--batch-size", int, 32, "sequences in a batch"),
        ("--learning-rate", float, 2e-3, "of AdamW"),
        ("--seed", int, 1, "the same seed gives the same numbers"),
    ):
        parser.add_argument(flag, type=kind, default=default, metavar="N", help=f"{text} (default: {default})")
    args = parser.parse_args(argv)
    try:
        captions = read_captions(args.text) if args.text else shape_captions(args.seed)
        vocabulary = Vocabulary.from_captions(captions)
        outcome = list(runs(sequences(captions, vocabulary, args.words), vocabulary, args))
        with replacing(args.figure) as temporary:
            draw(outcome).savefig(temporary, format=args.figure.suffix[1:] or "png", dpi=120)
        if args.json:
            with replacing(args.json) as temporary:
                settings = {name: value for name, value in vars(args).items() if name not in ("figure", "json", "text")}
                temporary.write_text(json.dumps({**settings, "text": str(args.text or "shapes"), "runs": outcome}))
    except CaptionerError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
