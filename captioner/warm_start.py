"""Training that begins with the weights of another captioner."""

from __future__ import annotations

import os

import torch

from captioner import checkpoint
from captioner.errors import CaptionerError
from captioner.model import CaptionModel
from captioner.vocabulary import Vocabulary

_ONE_ROW_A_WORD = frozenset({"decoder.embedding.weight", "decoder.output.weight", "decoder.output_bias"})


@torch.no_grad()
def warm_start(model: CaptionModel, vocabulary: Vocabulary, path: str | os.PathLike[str]) -> int:
    """Copies a checkpoint's weights into a model.

    What belongs to a word goes to the same word, whatever its id; words and layers that the checkpoint lacks keep their
    values.

    Args:
        model: The model, changed in place.
        vocabulary: Its words.
        path: The checkpoint.

    Returns:
        How many of the model's words the checkpoint has.

    Raises:
        CaptionerError: The checkpoint cannot be read, or a layer has another shape there.
    """
    content = checkpoint.read(path)
    places = {word: place for place, word in enumerate(content.words)}
    shared = [(id_, places[word]) for id_, word in enumerate(vocabulary.words) if word in places]
    ids, old_ids = torch.tensor(shared).T
    for name, value in model.state_dict().items():
        if name not in content.weights:
            continue
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
    return len(shared)
