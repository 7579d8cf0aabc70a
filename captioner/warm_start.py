"""Training that begins with the weights of another captioner."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_only

from captioner import checkpoint
from captioner.errors import CaptionerError
from captioner.messages import tell
from captioner.model import CaptionModel
from captioner.vocabulary import Vocabulary

Part = Literal["all", "encoder"]

_ONE_ROW_A_WORD = frozenset({"decoder.embedding.weight", "decoder.output.weight", "decoder.output_bias"})


class Taken(NamedTuple):
    """How much of a model came from a checkpoint: words of its vocabulary, and tensors."""

    words: int
    tensors: int


@torch.no_grad()
def warm_start(model: CaptionModel, vocabulary: Vocabulary, path: str | os.PathLike[str], part: Part = "all") -> Taken:
    """Copies a checkpoint's weights into a model.

    What belongs to a word goes to the same word, whatever its id; words and layers that the checkpoint lacks keep their
    values. One line on standard error tells how much was taken.

    Args:
        model: The model, changed in place.
        vocabulary: Its words.
        path: The checkpoint.
        part: ``encoder`` leaves the decoder, words included, as it is.

    Returns:
        What was taken.

    Raises:
        CaptionerError: The checkpoint cannot be read, has nothing of this part (of the decoder, where all is asked
            for), or a layer of another shape.
    """
    content = checkpoint.read(path)
    places = {word: place for place, word in enumerate(content.words)}
    shared = [(id_, places[word]) for id_, word in enumerate(vocabulary.words) if word in places]
    ids, old_ids = torch.tensor(shared).T
    own = model.state_dict()
    common = [name for name in own if name in content.weights and (part == "all" or name.startswith(f"{part}."))]
    needed = "decoder" if part == "all" else part  # a language model has no encoder
    if not any(name.startswith(f"{needed}.") for name in common):
        raise CaptionerError(f"{path}: has no weights of this {needed}; start from another checkpoint")
    for name in common:
        value = own[name]
        other = content.weights[name].to(value)
        if name in _ONE_ROW_A_WORD and value.shape[1:] == other.shape[1:]:
            value[ids] = other[old_ids]
        elif value.shape == other.shape:
            value.copy_(other)
        else:
            raise CaptionerError(
                f"{path}: {name} has shape {tuple(other.shape)}, the model's {tuple(value.shape)}; start from a "
                "checkpoint of a model of the same shape"
            )
    taken = Taken(0 if _ONE_ROW_A_WORD.isdisjoint(common) else len(shared), len(common))
    told = f"{taken.tensors} of {len(own)} tensors and {taken.words} of {len(vocabulary)} words"
    rank_zero_only(tell)(f"captioner: starts from {os.fspath(path)!r}: {told}")
    return taken
