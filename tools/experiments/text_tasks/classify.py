"""Classifies sentences with the captioner's decoder: a class is a caption of one word.

    python tools/experiments/text_tasks/classify.py train runs/mean --view mean \
        --data pos=rt-polarity.pos.gz neg=rt-polarity.neg.gz
    python tools/experiments/text_tasks/classify.py test runs/mean --data pos=rt-polarity.pos.gz neg=rt-polarity.neg.gz
    python tools/experiments/text_tasks/classify.py say runs/mean "A film to love."

Each class has a file, one sentence a line, which may be compressed to .gz. Of every ten lines the first is for the test
and the second for validation. ``train`` goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Literal, NamedTuple

from text_alignment import draw
from text_encoder import TextConfig, TextModel, write_together
from text_options import TOKENS, add_command, add_training_options, chosen, read_sentence, run
from text_training import FitOptions, Pair, Trained, fit, read_lines

from captioner.decoding import DecodingOptions
from captioner.errors import CaptionerError
from captioner.text.vocabulary import END, SPECIAL_WORDS, START, Vocabulary
from captioner.utils.files import replacing

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("test", "val", *("train",) * 8)
"""The split of each of ten consecutive lines."""

ONE_WORD = DecodingOptions(beam_size=1, min_words=1, max_words=1)


class Labeled(NamedTuple):
    """The tokens of a sentence, and its class."""

    tokens: list[str]
    label: str


def read_classes(args: argparse.Namespace) -> dict[str, Path]:
    """The file of each class.

    Raises:
        CaptionerError: The classes are not given as ``NAME=FILE``, or there are fewer than two.
    """
    given = [entry.partition("=") for entry in args.data]
    for name, equals, file in given:
        if not (name and equals and file) or name in SPECIAL_WORDS:
            raise CaptionerError(f"class {name + equals + file!r} is not NAME=FILE; name each class and its file")
    classes = {name: Path(file) for name, _, file in given}
    if len(classes) < max(2, len(given)):
        raise CaptionerError(f"classes are {', '.join(name for name, *_ in given)}; give two or more, each once")
    return classes


def read_labeled(classes: dict[str, Path], split: Split) -> list[Labeled]:
    """The sentences of a split, class after class, without those that have no tokens.

    Raises:
        CaptionerError: A file cannot be read, or has too few lines.
    """
    found = []
    for label, file in classes.items():
        lines = [line for index, line in enumerate(read_lines(file)) if SPLITS[index % len(SPLITS)] == split]
        tokenized = [tokens for tokens in TOKENS(lines) if tokens]
        if not tokenized:
            raise CaptionerError(f"{file}: has too few lines to learn from some and be tested on others")
        found += [Labeled(tokens, label) for tokens in tokenized]
    return found


def encode(source: Vocabulary, target: Vocabulary, labeled: Sequence[Labeled]) -> list[Pair]:
    """The ids of sentences and of captions of one word."""
    return [Pair([source.id(token) for token in each.tokens], [START, target.id(each.label), END]) for each in labeled]


def accuracy(models: Sequence[TextModel], pairs: Sequence[Pair]) -> float:
    """Share of the sentences whose class is the most likely one by the mean of the networks."""
    found = write_together(models, [pair.source for pair in pairs], ONE_WORD)
    return sum(best.words == pair.target[1:-1] for best, pair in zip(found, pairs, strict=True)) / len(pairs)


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share that was found in so many independent cases."""
    z = NormalDist().inv_cdf(0.975)
    center = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return center - reach, center + reach


def train(args: argparse.Namespace) -> None:
    """Train, and print the best validation score: the accuracy."""
    config, options = chosen(TextConfig, args), chosen(FitOptions, args)
    classes = read_classes(args)
    read = read_labeled(classes, "train")
    source = Vocabulary.from_counts(Counter(token for each in read for token in each.tokens), args.min_count)
    target = Vocabulary([*SPECIAL_WORDS, *classes])
    pairs, held_out = (encode(source, target, each) for each in (read, read_labeled(classes, "val")))
    trained = Trained.new(config, source, target, seed=options.seed)
    best = fit(trained, pairs, lambda model: accuracy([model], held_out), options, args.run)
    print(f"accuracy, validation: {best:.1%}")


def test(args: argparse.Namespace) -> None:
    """Print the accuracy on the tenth that is held out for it, with a 95 % interval (Wilson, 1927)."""
    runs = [Trained.load(run) for run in (args.run, *args.together)]
    trained = runs[0]
    if any(other.describe()["source"] != trained.describe()["source"] for other in runs):
        raise CaptionerError(f"{args.run}: has not the vocabulary of the other runs; train them on the same data")
    classes = read_classes(args)
    if set(classes) != set(trained.target.words[len(SPECIAL_WORDS) :]):
        known = ", ".join(trained.target.words[len(SPECIAL_WORDS) :])
        raise CaptionerError(f"{args.run}: has the classes {known}, not {', '.join(classes)}; name them alike")
    pairs = encode(trained.source, trained.target, read_labeled(classes, "test"))
    found = accuracy([run.model for run in runs], pairs)
    low, high = wilson_interval(found, len(pairs))
    print(f"accuracy on {len(pairs)} sentences: {found:.1%} ({low:.1%} to {high:.1%})")


def say(args: argparse.Namespace) -> None:
    """Print the class of a sentence with its probability, and draw the attention if asked."""
    trained = Trained.load(args.run)
    tokens = read_sentence(args.sentence)
    [best] = trained.model.write([[trained.source.id(token) for token in tokens]], ONE_WORD)
    label = trained.target.words[best.words[0]]
    print(f"{label} {math.exp(best.log_probabilities[0]):.2f}")
    if args.figure:
        if best.attention is None:
            raise CaptionerError(f"{args.run}: has no attention to draw; train with the view attention")
        with replacing(args.figure) as temporary:
            draw(best.attention.numpy(), tokens, [label], temporary, args.figure.suffix[1:] or "png")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return 0, or 2 for wrong use."""
    parser = argparse.ArgumentParser(description="Classify sentences with the captioner's decoder.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    training = add_command(commands, "train", train, "train on sentences of known classes, or go on with a run")
    testing = add_command(commands, "test", test, "accuracy on sentences that were held out")
    saying = add_command(commands, "say", say, "tell the class of a sentence")
    for command in (training, testing):
        command.add_argument("--data", nargs="+", required=True, metavar="NAME=FILE", help="each class and its file")
    training.add_argument("--min-count", type=int, default=2, help="rarer tokens are unknown (default: 2)")
    config = TextConfig(embedding_size=128, embedding_scale=0.06, hidden_size=128, dropout=0.4)
    fitting = FitOptions(epochs=8, batch_size=32, label_smoothing=0.0, word_dropout=0.2)
    add_training_options(training, config, fitting)
    testing.add_argument(
        "--together", nargs="+", type=Path, default=(), metavar="RUN", help="further runs that decide with the first"
    )
    saying.add_argument("sentence")
    saying.add_argument("--figure", type=Path, help="also draw the attention to this file")
    return run(parser, argv)


if __name__ == "__main__":
    sys.exit(main())
