"""Vectors for words that hardly any caption taught: predicted from what stands beside them in text without pictures.

    python tools/embedded/rare_words.py CHECKPOINT OUTPUT --captions FILE... --text FILE...

Co-occurrences of words in all texts, as positive pointwise mutual information reduced by a singular value decomposition
(Levy and Goldberg, 2014, Neural Word Embedding as Implicit Matrix Factorization), give each word a vector; ridge
regression on the frequent words maps these to the captioner's own word vectors and concept vectors.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from captioner import checkpoint
from captioner.data.caption_files import read_records
from captioner.data.records import Record
from captioner.errors import CaptionerError
from captioner.text.vocabulary import SPECIAL_WORDS, Vocabulary, split_words

WINDOW = 4
"""Words on each side of a word that count as beside it, by the reciprocal of their distance."""
SIZE = 160
"""Length of the vectors that co-occurrences give."""
RARE = 30
"""Words that training captions have less often get a predicted vector, mixed with what little they have learned."""
_FREQUENT = 50
"""Words at least as frequent teach the map."""
_RIDGE = 3.0
_SMOOTHING = 0.75
"""Exponent of the contexts' frequencies (Levy et al., 2015)."""

_EMBEDDING, _CONCEPTS = "decoder.embedding.weight", "decoder.concepts"


def cooccurrence_vectors(texts: Iterable[Sequence[int]], words: int) -> Tensor:
    """A vector for each word from the words beside it.

    Args:
        texts: Word ids of each text; the special ids count for nothing.
        words: Size of the vocabulary.

    Returns:
        Shape (words, SIZE or the number of words, if less), rows of length 1, or 0 for words that no text has.
    """
    gap = [0] * WINDOW
    stream = torch.tensor([id_ for text in texts for id_ in (*text, *gap)])
    counts = torch.zeros(words * words)
    for distance in range(1, WINDOW + 1):
        first, second = stream[:-distance], stream[distance:]
        real = (first >= len(SPECIAL_WORDS)) & (second >= len(SPECIAL_WORDS))
        pairs = first[real] * words + second[real]
        counts.index_add_(0, pairs, torch.full((len(pairs),), 1 / distance))
    matrix = counts.view(words, words)
    matrix = matrix + matrix.T
    total = matrix.sum(1)
    contexts = total.pow(_SMOOTHING)
    expected = total.unsqueeze(1) * (contexts / contexts.sum()).unsqueeze(0)
    information = (matrix / expected.clamp(min=1e-9)).clamp(min=1e-9).log().clamp(min=0)
    left, values, _ = torch.svd_lowrank(information, q=min(SIZE, words), niter=3)
    vectors: Tensor = left * values.sqrt()
    vectors /= vectors.norm(dim=1, keepdim=True).clamp(min=1e-6)
    return vectors


def predict(vectors: Tensor, known: Tensor, taught: Tensor) -> Tensor:
    """Ridge regression from one kind of vectors to another.

    Args:
        vectors: Of all words, shape (words, size).
        known: The other kind, shape (words, other size); only rows that are taught count.
        taught: Which rows teach, shape (words,).

    Returns:
        The other kind of all words, as predicted.
    """
    extended = torch.cat([vectors, torch.ones(len(vectors), 1)], dim=1)
    x, y = extended[taught], known[taught]
    weights: Tensor = torch.linalg.solve(x.T @ x + _RIDGE * torch.eye(x.shape[1]), x.T @ y)
    return extended @ weights


def fill(whole: checkpoint.Checkpoint, captions: Sequence[str], texts: Sequence[str]) -> checkpoint.Checkpoint:
    """Gives rare words and rare concepts of a captioner predicted vectors.

    Args:
        whole: The captioner; its decoder has concepts and no members.
        captions: The training captions.
        texts: Further captions, of no picture that is used for scores.
    """
    vocabulary = Vocabulary(whole.words)
    counted = Counter(word for caption in captions for word in split_words(caption))
    counts = torch.tensor([counted[word] for word in whole.words], dtype=torch.float)
    counts[: len(SPECIAL_WORDS)] = RARE
    ids = ([vocabulary.id(word) for word in split_words(text)] for text in (*captions, *texts))
    vectors = cooccurrence_vectors(ids, len(whole.words))
    weights = dict(whole.weights)
    learned = (counts / RARE).clamp(max=1).unsqueeze(1)
    frequent = counts >= _FREQUENT
    embedding = weights[_EMBEDDING].float()
    weights[_EMBEDDING] = torch.lerp(predict(vectors, embedding, frequent), embedding, learned)
    concepts = weights[f"{_CONCEPTS}.word_ids"].long()
    own = weights[f"{_CONCEPTS}.vectors"].float()
    predicted = predict(vectors[concepts], own, frequent[concepts])
    weights[f"{_CONCEPTS}.vectors"] = torch.lerp(predicted, own, learned[concepts])
    return replace(whole, weights=weights)


def read_texts(files: Iterable[Path]) -> list[str]:
    """The captions of JSON lines without pictures, gzipped or not.

    Raises:
        CaptionerError: A file cannot be read.
    """
    found: list[str] = []
    for file in files:
        try:
            with (
                gzip.open(file, "rt", encoding="utf-8")
                if file.suffix == ".gz"
                else file.open(encoding="utf-8") as lines
            ):
                found += [text for line in lines for text in json.loads(line)["captions"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CaptionerError(f"{file}: holds no captions as JSON lines ({error})") from error
    return found


def read_training(files: Iterable[Path]) -> list[Record]:
    """The training photographs of caption files whose images are named with their folders.

    Raises:
        CaptionerError: A file cannot be read.
    """
    return [record for file in files for record in read_records(file, anywhere=True, wanted=("train",))]


def main(arguments: Sequence[str]) -> int:
    """Writes the captioner with the predicted vectors."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--captions", type=Path, nargs="+", required=True, metavar="FILE", help="training captions")
    parser.add_argument("--text", type=Path, nargs="*", default=[], metavar="FILE", help="captions without pictures")
    args = parser.parse_args(arguments)
    try:
        captions = [caption for record in read_training(args.captions) for caption in record.captions]
        checkpoint.write(args.output, fill(checkpoint.read(args.checkpoint), captions, read_texts(args.text)))
    except CaptionerError as error:
        print(f"rare_words: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
