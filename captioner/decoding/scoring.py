"""Log-probabilities of given captions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captioner.decoding.ensemble import AnyDecoder, Ensemble
from captioner.decoding.hypotheses import Hypothesis
from captioner.text.vocabulary import END, PAD


@torch.inference_mode()
def score_captions(
    decoder: AnyDecoder | Sequence[AnyDecoder], grid: Tensor | Sequence[Tensor], captions: Tensor
) -> list[list[Hypothesis]]:
    """Score given captions, with the same computation that generates them.

    Args:
        decoder: Anything with ``start`` and ``step``, or `MemberDecoders`; several are an `Ensemble`.
        grid: Feature vectors, shape (images, regions, channels); a list of these for several decoders.
        captions: Token ids, START first, END last (left out to score an unfinished caption), then PAD, shape (images,
            captions per image, length).

    Returns:
        The captions of each image with log-probabilities and attention.
    """
    decoders = decoder if isinstance(decoder, Sequence) else [decoder]
    grids = [grid] if isinstance(grid, Tensor) else list(grid)
    images, count, length = captions.shape
    ensemble = Ensemble(decoders, grids)
    ensemble.repeat(count)
    tokens = captions.to(grids[0].device).flatten(0, 1)  # (hypotheses, length)
    log_probabilities, maps = [], []
    for position in range(length - 1):
        each, attention = ensemble.step(tokens[:, position])
        log_probabilities.append(each.gather(1, tokens[:, position + 1 : position + 2]))
        maps.append(attention)
    scores = torch.cat(log_probabilities, dim=1)
    attended = None if any(each is None for each in maps) else torch.stack([m for m in maps if m is not None], dim=1)
    hypotheses = []
    for row in range(images * count):
        ids = [word for word in tokens[row, 1:].tolist() if word != PAD]
        spoken = [word for word in ids if word != END]
        attention = None if attended is None else attended[row, : len(spoken)].clone()
        hypotheses.append(Hypothesis(spoken, scores[row, : len(ids)].tolist(), attention))
    return [hypotheses[image * count : (image + 1) * count] for image in range(images)]
