"""Noise on the decoder's input tokens during training."""

from __future__ import annotations

import torch
from torch import Tensor

from captioner.decoding.ensemble import Ensemble
from captioner.models.decoder import Decoder, MemberDecoders
from captioner.text.vocabulary import END, PAD, START, UNKNOWN


def drop_tokens(captions: Tensor, share: float) -> Tensor:
    """Word dropout: replace random words by UNKNOWN (Bowman et al., 2016).

    Args:
        captions: Word ids, any shape.
        share: Share of the words to replace, in [0, 1]; START, END and padding are kept.
    """
    dropped = torch.rand(captions.shape, device=captions.device) < share
    for special in (PAD, START, END):
        dropped &= captions != special
    return captions.masked_fill(dropped, UNKNOWN)


@torch.no_grad()
def sample_tokens(decoder: Decoder | MemberDecoders, grid: Tensor, captions: Tensor, share: float) -> Tensor:
    """Scheduled sampling: replace random input words by the decoder's own (Bengio et al., 2015).

    Each is sampled from the decoder's distribution, without dropout, given the words before it, sampled ones included;
    no gradient flows through samples.

    Args:
        decoder: The decoder, in training mode.
        grid: Feature vectors, shape (images, regions, channels).
        captions: Word ids, START first, END last, then PAD, shape (images, captions per image, length).
        share: Share of the words to replace, in [0, 1]; START, END and padding are kept.

    Returns:
        The input tokens, shaped like the captions.
    """
    sentences = captions.flatten(0, 1)
    inputs = sentences.clone()
    replaced = torch.rand(sentences.shape, device=sentences.device) < share
    for special in (PAD, START, END):
        replaced &= sentences != special
    decoder.eval()
    ensemble = Ensemble([decoder], [grid])
    ensemble.repeat(captions.shape[1])
    for position in range(sentences.shape[1] - 1):
        log_probabilities, _ = ensemble.step(inputs[:, position])
        log_probabilities[:, [PAD, START, END]] = -torch.inf
        chances = log_probabilities.softmax(-1)
        # Samples like `multinomial`, which would raise its own error if training has diverged.
        drawn = (chances / torch.empty_like(chances).exponential_()).argmax(-1)
        following = replaced[:, position + 1]
        inputs[following, position + 1] = drawn[following]
    decoder.train()
    return inputs.view_as(captions)
