"""Word vectors from a text file, as the start of the embedding matrix E."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from captioner.errors import CaptionerError
from captioner.vocabulary import Vocabulary

_NUMBER = re.compile(r"-?\.?\d")
"""How a number begins; some of GloVe's larger vocabularies have words with spaces, such as ``. . .``."""


def read_word_vectors(path: Path, vocabulary: Vocabulary, size: int) -> dict[int, Tensor]:
    """Reads the vectors of a vocabulary's words from a file in GloVe's format: a word and its numbers on each line.

    Args:
        path: The text file, UTF-8.
        vocabulary: Whose words are wanted; others are passed over.
        size: Numbers a word, the decoder's embedding_size.

    Returns:
        Word id to vector, float32, shape (size,), for the words that the file has.

    Raises:
        CaptionerError: The file is missing or not in that format, its vectors have another length, or it has none of
            the words.
    """
    vectors: dict[int, Tensor] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                word, *values = line.rstrip().split(" ")
                has_spaces = len(values) > size and not _NUMBER.match(values[0])
                if word not in vocabulary or has_spaces:
                    continue
                if len(values) != size:
                    raise CaptionerError(
                        f"word vectors {path}, line {number}: {len(values)} numbers for {word!r}, but "
                        f"decoder.embedding_size is {size}; make them equal"
                    )
                vectors[vocabulary.id(word)] = torch.tensor([float(value) for value in values])
    except OSError as error:
        raise CaptionerError(f"word vectors {path}: cannot be read: {error.strerror}; check the path") from error
    except ValueError as error:
        raise CaptionerError(f"word vectors {path}: is not in GloVe's text format ({error})") from error
    if not vectors:
        raise CaptionerError(f"word vectors {path}: has none of the vocabulary's {len(vocabulary)} words")
    return vectors
