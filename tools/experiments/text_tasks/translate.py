"""Translates with the captioner's decoder: words of a sentence in the place of regions of a photograph.

    python tools/experiments/text_tasks/translate.py train runs/attention --data multi30k
    python tools/experiments/text_tasks/translate.py test runs/attention --data multi30k
    python tools/experiments/text_tasks/translate.py say runs/attention "Ein Hund rennt." --figure alignment.png

Pairs are lines of two files each: train.de and train.en, val.de and val.en, test_2016_flickr.de and …en, each of which
may be compressed to .gz. ``train`` goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import sacrebleu
from text_alignment import draw, of_words
from text_encoder import TextConfig, TextModel
from text_options import add_command, add_training_options, chosen, run
from text_training import FitOptions, Pair, Trained, fit, read_lines

from captioner.decoding import DecodingOptions
from captioner.errors import CaptionerError
from captioner.text.pieces import Pieces
from captioner.text.vocabulary import UNKNOWN, Vocabulary
from captioner.utils.files import replacing

MOST_PIECES = 60
"""Longer sentences are not learned from, and no longer ones are written."""

GREEDY = DecodingOptions(beam_size=1, min_words=1, max_words=MOST_PIECES, no_repeat_ngram=0)
"""The validation score's search: no translation is empty; punctuation and articles may repeat."""


def read_pairs(args: argparse.Namespace, split: str) -> tuple[list[str], list[str]]:
    """The source sentences of a split, and its target sentences.

    Raises:
        CaptionerError: A file is missing, or the two have different numbers of lines.
    """
    files = []
    for language in (args.source, args.target):
        plain = args.data / f"{split}.{language}"
        files.append(plain if plain.exists() else plain.with_name(f"{plain.name}.gz"))
    source, target = (read_lines(file) for file in files)
    if len(source) != len(target):
        raise CaptionerError(f"{files[0]} has {len(source)} lines and {files[1]} has {len(target)}; they must be pairs")
    return source, target


def learn_pieces(sentences: Sequence[str], size: int) -> Vocabulary:
    """Learn subwords; those that only served to build others are left out."""
    pieces = Pieces.learn(sentences, size)
    counts = Counter(piece for sentence in sentences for piece in pieces.split(sentence))
    return Vocabulary.from_counts(counts, min_count=1, tokenizer=pieces)


def encode(vocabulary: Vocabulary, sentence: str) -> list[int]:
    """The ids of a sentence, without START and END; one that has no words is a single unknown one."""
    return vocabulary.encode(sentence)[1:-1] or [UNKNOWN]


def translate(trained: Trained, source: Sequence[str], options: DecodingOptions) -> list[str]:
    """Translate sentences."""
    found = trained.model.write([encode(trained.source, sentence) for sentence in source], options)
    return [trained.target.text(hypothesis.words) for hypothesis in found]


def train(args: argparse.Namespace) -> None:
    """Train, and print the best validation score: BLEU of greedy translations."""
    config, options = chosen(TextConfig, args), chosen(FitOptions, args)
    source, target = read_pairs(args, "train")
    vocabularies = [learn_pieces(side, args.pieces) for side in (source, target)]
    encoded = (
        Pair(encode(vocabularies[0], read), vocabularies[1].encode(written))
        for read, written in zip(source, target, strict=True)
    )
    pairs = [pair for pair in encoded if len(pair.source) <= MOST_PIECES and 2 < len(pair.target) <= MOST_PIECES + 2]
    if not pairs:
        raise CaptionerError(f"{args.data}: has no pair of at most {MOST_PIECES} pieces; add text")
    source, target = read_pairs(args, "val")

    def score(model: TextModel) -> float:
        translations = translate(Trained(model, *vocabularies), source, GREEDY)
        return float(sacrebleu.corpus_bleu(translations, [target]).score)

    trained = Trained.new(config, vocabularies[0], vocabularies[1], options.seed)
    print(f"BLEU of greedy translations, validation: {fit(trained, pairs, score, options, args.run):.2f}")


def search(args: argparse.Namespace) -> DecodingOptions:
    """The search that the command line asks for."""
    return replace(GREEDY, beam_size=args.beam, length_penalty=args.length_penalty)


def test(args: argparse.Namespace) -> None:
    """Print the BLEU of a split."""
    trained = Trained.load(args.run)
    source, target = read_pairs(args, args.split)
    metric = sacrebleu.BLEU()
    score = metric.corpus_score(translate(trained, source, search(args)), [target]).score
    print(f"BLEU, {args.split}, beam of {args.beam}: {score:.2f} ({metric.get_signature()})")


def say(args: argparse.Namespace) -> None:
    """Print the translation of a sentence, and draw the alignment if asked."""
    trained = Trained.load(args.run)
    if not args.sentence.strip():
        raise CaptionerError("the sentence has no words; give some")
    source = encode(trained.source, args.sentence)
    [hypothesis] = trained.model.write([source], search(args))
    print(trained.target.text(hypothesis.words))
    if args.figure:
        if hypothesis.attention is None:
            raise CaptionerError(f"{args.run}: has no attention to draw; train with the view attention")
        with replacing(args.figure) as temporary:
            read, written = trained.source.whole_words(source), trained.target.whole_words(hypothesis.words)
            weights = of_words(hypothesis.attention.numpy(), read[1], written[1])
            draw(weights, read[0], written[0], temporary, args.figure.suffix[1:] or "png")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return 0, or 2 for wrong use."""
    parser = argparse.ArgumentParser(description="Translate sentences with the captioner's decoder.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    training = add_command(commands, "train", train, "train on pairs of sentences, or go on with a run")
    testing = add_command(commands, "test", test, "BLEU of a split")
    saying = add_command(commands, "say", say, "translate a sentence")
    for command in (training, testing):
        command.add_argument("--data", type=Path, required=True, help="folder of the pairs")
        command.add_argument("--source", default="de", help="language that is read: the files' ending (default: de)")
        command.add_argument("--target", default="en", help="language that is written (default: en)")
    training.add_argument("--pieces", type=int, default=4000, help="subwords of each language (default: 4000)")
    config = TextConfig(attention="spatial", normalized=True, dropout=0.3)
    add_training_options(training, config, FitOptions(epochs=12, learning_rate=1e-3))
    testing.add_argument("--split", default="test_2016_flickr", help="default: test_2016_flickr")
    saying.add_argument("sentence", help="in the language that is read")
    saying.add_argument("--figure", type=Path, help="also draw the attention, word by word, to this file")
    for command in (testing, saying):
        command.add_argument("--beam", type=int, default=5, help="default: 5")
        command.add_argument("--length-penalty", type=float, default=0.3, help="default: 0.3")
    return run(parser, argv)


if __name__ == "__main__":
    sys.exit(main())
