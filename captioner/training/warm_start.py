"""Initial weights from checkpoints and from word vectors."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from captioner import checkpoint
from captioner.errors import CaptionerError
from captioner.models.captioner import CaptionModel
from captioner.models.decoder import member_prefix
from captioner.text.vocabulary import Vocabulary
from captioner.utils.console import print_status
from captioner.utils.file_kinds import LOOKED_AT, identify
from captioner.utils.spelling import tell_missing

Part = Literal["all", "encoder"]

_DECODER = "decoder."
_ONE_ROW_A_WORD = re.compile(r"decoder\.(members\.\d+\.)?(embedding\.weight|output\.weight|output_bias)")


class Taken(NamedTuple):
    """Numbers of words and tensors that were copied from a checkpoint."""

    words: int
    tensors: int


def warm_start_members(model: CaptionModel, vocabulary: Vocabulary, paths: Sequence[str | os.PathLike[str]]) -> None:
    """Copy a checkpoint into each member of a model's decoder, and the encoder of the first.

    Args:
        model: The model, changed in place.
        vocabulary: Its vocabulary.
        paths: Checkpoints of one member each, one for each member.

    Raises:
        CaptionerError: As for `warm_start`, or their number is wrong.
    """
    members = len(model.decoder.members)
    if len(paths) != members:
        raise CaptionerError(
            f"model.start.checkpoint lists {len(paths)} checkpoints, and model.decoder.members is {members}; "
            "give one for each"
        )
    for index, path in enumerate(paths):
        warm_start(model, vocabulary, path, member=index)


@torch.no_grad()
def warm_start(
    model: CaptionModel,
    vocabulary: Vocabulary,
    path: str | os.PathLike[str],
    part: Part = "all",
    member: int | None = None,
) -> Taken:
    """Copy a checkpoint's weights into a model.

    Parameters of a word are copied to the same word, whatever its id; words and layers that the checkpoint lacks keep
    their values. Prints a line with the numbers on standard error.

    Args:
        model: The model, changed in place.
        vocabulary: Its vocabulary.
        path: The checkpoint.
        part: ``encoder`` leaves the decoder and its embedding unchanged.
        member: Index of the member that gets the checkpoint's decoder; the first gets the encoder, too.

    Returns:
        The copied numbers.

    Raises:
        CaptionerError: The checkpoint cannot be read, lacks this part, or has a layer of another shape.
    """
    content = checkpoint.read(path)
    indices = {word: index for index, word in enumerate(content.words)}
    shared = [(id_, indices[word]) for id_, word in enumerate(vocabulary.words) if word in indices]
    ids, old_ids = torch.tensor(shared).T
    own = model.state_dict()
    if member is None:
        wanted = {name: name for name in own if part == "all" or name.startswith(f"{part}.")}
    else:
        prefix = _DECODER + member_prefix(member, len(model.decoder.members))
        parts = (prefix, "encoder.") if member == 0 else (prefix,)
        wanted = {name: name.replace(prefix, _DECODER) for name in own if name.startswith(parts)}
    common = {name: other for name, other in wanted.items() if other in content.weights}
    needed = "decoder" if part == "all" else part  # a language model has no encoder
    if not any(name.startswith(f"{needed}.") for name in common):
        raise CaptionerError(f"{path}: has no weights of this {needed}; start from another checkpoint")
    for name, theirs in common.items():
        value = own[name]
        other = content.weights[theirs].to(value)
        if _ONE_ROW_A_WORD.fullmatch(name) and value.shape[1:] == other.shape[1:]:
            value[ids] = other[old_ids]
        elif value.shape == other.shape:
            value.copy_(other)
        else:
            size = getattr(content.config, "feature_size", None)
            one_size = size == model.config.feature_size
            cure = (
                "start from a checkpoint of a model of the same shape"
                if one_size
                else f"set model.encoder.feature_size {size or 'null'}"
            )
            raise CaptionerError(
                f"{path}: {name} has shape {tuple(other.shape)}, the model's {tuple(value.shape)}; {cure}"
            )
    taken = Taken(len(shared) if any(map(_ONE_ROW_A_WORD.fullmatch, common)) else 0, len(common))
    message = f"{taken.tensors} of {len(own)} tensors and {taken.words} of {len(vocabulary)} words"
    rank_zero_only(print_status)(f"captioner: starts from {os.fspath(path)!r}: {message}")
    return taken


_NUMBER = re.compile(r"[+-]?(\.?\d|nan|inf)", re.I)
"""Start of a number; some GloVe vocabularies have words with spaces, such as ``. . .``."""

_BLANKS = re.compile(r"[ \t]+")  # not U+00A0, which is within words


def read_word_vectors(path: Path, vocabulary: Vocabulary, size: int) -> dict[int, Tensor]:
    """Read the vectors of a vocabulary's words from a file in GloVe's format: a word and its numbers on each line.

    Args:
        path: The text file, UTF-8, with or without a byte-order mark; fields are separated by spaces or tabs. A first
            line of two counts, as word2vec and fastText write it, is skipped.
        vocabulary: The vocabulary; other words are skipped.
        size: Length of a vector, the decoder's embedding_size.

    Returns:
        Word id to vector, float32, shape (size,), for the words that the file has.

    Raises:
        CaptionerError: The file is missing or not in that format, its vectors are malformed or of another length, or it
            has none of the words.
    """
    vectors: dict[int, Tensor] = {}
    try:
        with path.open("rb") as start:
            if (kind := identify(start.read(LOOKED_AT))) is not None:
                raise CaptionerError(f"word vectors {path}: {kind.tell('give a text file in the format of GloVe')}")
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                word, *values = _BLANKS.split(line.rstrip())
                if number == 1 and len(values) == 1 and word.isdigit() and values[0].isdigit():
                    continue
                has_spaces = len(values) > size and not _NUMBER.match(values[0])
                if word not in vocabulary or has_spaces:
                    continue
                if len(values) != size:
                    raise CaptionerError(
                        f"word vectors {path}, line {number}: {len(values)} numbers for {word!r}, but "
                        f"decoder.embedding_size is {size}; make them equal"
                    )
                vector = [float(value) for value in values]
                odd = next((value for value in vector if not math.isfinite(value)), None)
                if odd is not None:
                    raise CaptionerError(
                        f"word vectors {path}, line {number}: {odd} for {word!r}; every value must be a finite number"
                    )
                vectors[vocabulary.id(word)] = torch.tensor(vector)
    except FileNotFoundError as error:
        raise CaptionerError(f"word vectors {path}: {tell_missing(str(path))}") from error
    except OSError as error:
        raise CaptionerError(f"word vectors {path}: cannot be read: {error.strerror}; check the path") from error
    except ValueError as error:
        raise CaptionerError(
            f"word vectors {path}: is not in GloVe's text format ({error}); give lines of a word and its numbers"
        ) from error
    if not vectors:
        raise CaptionerError(
            f"word vectors {path}: has none of the vocabulary's {len(vocabulary)} words; give vectors of its language"
        )
    return vectors
