"""Answers questions about pictures with the captioner's decoder: an answer is a caption of one or two words.

    python tools/data/make_questions.py data/questions
    python tools/experiments/text_tasks/answer.py train runs/answers --data data/questions
    python tools/experiments/text_tasks/answer.py test runs/answers --data data/questions
    python tools/experiments/text_tasks/answer.py answer runs/answers PHOTO "what shape is red?" --figure look.png

The folder holds questions.csv with the columns image, question, answer and split (train, val or test), or the files of
VQA v2 and its folders train2014 and val2014. ``train`` goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from question_encoder import Question, QuestionConfig
from question_files import Asked, Box, read_questions
from text_encoder import TextModel
from text_options import TOKENS, add_command, add_training_options, chosen, read_sentence, run
from text_training import FitOptions, Pair, Trained, fit
from torch import Tensor
from vqa_accuracy import consensus, vqa_accuracy

from captioner.caption import Caption
from captioner.data.images import open_image
from captioner.decoding import DecodingOptions, Hypothesis
from captioner.errors import CaptionerError
from captioner.text.vocabulary import END, START, UNKNOWN, Vocabulary
from captioner.utils.files import replacing
from captioner.visualize import plot

SEARCH = DecodingOptions(beam_size=3, min_words=1, max_words=6, length_penalty=0.0, no_repeat_ngram=0)
"""The most likely answer, whatever its length."""


def encode(source: Vocabulary, asked: Sequence[Asked]) -> list[Question]:
    """Pictures with the ids of their questions; a question that has no tokens is a single unknown word."""
    tokenized = TOKENS([each.question for each in asked])
    return [
        Question(each.picture, [source.id(token) for token in tokens] or [UNKNOWN])
        for each, tokens in zip(asked, tokenized, strict=True)
    ]


def answers(trained: Trained, asked: Sequence[Asked]) -> list[Hypothesis]:
    """Answer questions."""
    return trained.model.write(encode(trained.source, asked), SEARCH)


def text_of(target: Vocabulary, hypothesis: Hypothesis) -> str:
    """The words of an answer."""
    return " ".join(target.words[id_] for id_ in hypothesis.words)


def accuracies(trained: Trained, asked: Sequence[Asked], found: Sequence[Hypothesis]) -> dict[str, list[float]]:
    """VQA accuracy of each answer, by the type of the question."""
    by_type: dict[str, list[float]] = defaultdict(list)
    for each, hypothesis in zip(asked, found, strict=True):
        by_type[each.type].append(vqa_accuracy(text_of(trained.target, hypothesis), each.answers))
    return by_type


def mean(parts: dict[str, list[float]]) -> float:
    """Mean over the questions of all types."""
    return sum(map(sum, parts.values())) / sum(map(len, parts.values()))


def points_at(weights: Tensor, box: Box, size: tuple[int, int]) -> bool:
    """Whether the region with most attention lies on a box, at least in part.

    That is the pointing game (Zhang et al., 2016), whose tolerance is here half a region.

    Args:
        weights: Attention over the regions of a square grid, row by row, shape (regions,).
        box: Left, top, width and height in pixels of the picture.
        size: The picture's width and height in pixels.
    """
    side = math.isqrt(len(weights))
    row, column = divmod(int(weights.argmax()), side)
    width, height = size[0] / side, size[1] / side
    beside_x = column * width - box[0]
    beside_y = row * height - box[1]
    return -width < beside_x < box[2] and -height < beside_y < box[3]


def train(args: argparse.Namespace) -> None:
    """Train, and print the best validation score: VQA accuracy."""
    config, options = chosen(QuestionConfig, args), chosen(FitOptions, args)
    asked = read_questions(args.data, "train")
    said = [consensus(each.answers).split() for each in asked]
    source, target = (
        Vocabulary.from_counts(Counter(token for tokens in side for token in tokens), args.min_count)
        for side in (TOKENS([each.question for each in asked]), said)
    )
    pairs = [
        Pair(question, [START, *map(target.id, words), END])
        for question, words in zip(encode(source, asked), said, strict=True)
        if 0 < len(words) <= SEARCH.max_words and UNKNOWN not in map(target.id, words)
    ]
    if not pairs:
        raise CaptionerError(f"{args.data}: has no answer whose words occur {args.min_count} times; lower --min-count")
    held_out = read_questions(args.data, "val")

    def score(model: TextModel) -> float:
        trained = Trained(model, source, target)
        return mean(accuracies(trained, held_out, answers(trained, held_out)))

    trained = Trained.new(config, source, target, options.seed)
    print(f"VQA accuracy, validation: {fit(trained, pairs, score, options, args.run):.1%}")


def test(args: argparse.Namespace) -> None:
    """Print the accuracy of a split, in all and by type, and where boxes are known how often attention is on them."""
    trained = Trained.load(args.run, QuestionConfig)
    asked = read_questions(args.data, args.split)
    found = answers(trained, asked)
    by_type = accuracies(trained, asked, found)
    print(f"VQA accuracy on {len(asked)} questions: {mean(by_type):.1%}")
    for name, parts in sorted(by_type.items()):
        if name:
            print(f"  {name}: {mean({name: parts}):.1%} of {len(parts)}")
    hits = [
        points_at(hypothesis.attention[0], each.box, open_image(each.picture).size)
        for each, hypothesis in zip(asked, found, strict=True)
        if each.box is not None and hypothesis.attention is not None
    ]
    if hits:
        print(f"most attention on what is asked for: {sum(hits) / len(hits):.1%} of {len(hits)}")


def answer(args: argparse.Namespace) -> None:
    """Print the answer to a question with its probability, and draw the attention if asked."""
    trained = Trained.load(args.run, QuestionConfig)
    words = read_sentence(args.question)
    asked = Asked(args.picture, args.question, ())
    [found] = answers(trained, [asked])
    text = text_of(trained.target, found)
    unknown = [word for word in words if trained.source.id(word) == UNKNOWN]
    if unknown:
        print(f"words that no training question has: {', '.join(dict.fromkeys(unknown))}", file=sys.stderr)
    print(f"{text} {math.exp(found.log_probability):.2f}")
    if args.figure:
        if found.attention is None:
            raise CaptionerError(f"{args.run}: has no attention to draw; train with the view attention")
        side = math.isqrt(found.attention.shape[1])
        caption = Caption(
            tuple(text.split()),
            tuple(found.log_probabilities),
            found.attention.view(-1, side, side).numpy(),
            (0.0, 0.0, 1.0, 1.0),
            joined=f"{args.question} {text}",
        )
        with replacing(args.figure) as temporary:
            plot(args.picture, caption).savefig(temporary, format=args.figure.suffix[1:] or "png")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return 0, or 2 for wrong use."""
    parser = argparse.ArgumentParser(description="Answer questions about pictures with the captioner's decoder.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    training = add_command(commands, "train", train, "train on questions with answers, or go on with a run")
    testing = add_command(commands, "test", test, "VQA accuracy of a split")
    answering = add_command(commands, "answer", answer, "answer a question about a picture")
    for command in (training, testing):
        command.add_argument("--data", type=Path, required=True, help="folder with questions.csv, or of VQA v2")
    training.add_argument("--min-count", type=int, default=2, help="rarer words are left out (default: 2)")
    config = QuestionConfig(embedding_size=64, hidden_size=64, dropout=0.1)
    add_training_options(
        training, config, FitOptions(epochs=15, patience=15, learning_rate=3e-3, label_smoothing=0.0, word_dropout=0.0)
    )
    testing.add_argument("--split", choices=("val", "test"), default="test", help="default: test")
    answering.add_argument("picture", type=Path)
    answering.add_argument("question")
    answering.add_argument("--figure", type=Path, help="also draw the attention to this file")
    return run(parser, argv)


if __name__ == "__main__":
    sys.exit(main())
