"""What a decoder reads while it learns: the captions' own words, or, to make it robust, not all of them."""

from __future__ import annotations

import torch
from torch import Tensor

from captioner.decoding.ensemble import Ensemble
from captioner.models.decoder import Decoder, MemberDecoders
from captioner.text.vocabulary import END, PAD, START, UNKNOWN


def drop_tokens(captions: Tensor, share: float) -> Tensor:
    """Word dropout: UNKNOWN in the place of words chosen by chance (Bowman et al., 2016).

    Args:
        captions: Word ids, any shape.
        share: Of the words, in [0, 1]; START, END and padding stay.
    """
    dropped = torch.rand(captions.shape, device=captions.device) < share
    for special in (PAD, START, END):
        dropped &= captions != special
    return captions.masked_fill(dropped, UNKNOWN)


@torch.no_grad()
def sample_tokens(decoder: Decoder | MemberDecoders, grid: Tensor, captions: Tensor, share: float) -> Tensor:
    """Scheduled sampling: the decoder's own words in the place of words chosen by chance (Bengio et al., 2015).

    Each is drawn from what the decoder makes, without dropout, of the words read before it, those that it drew
    included; no gradient flows through a draw.

    Args:
        decoder: The decoder, in training mode.
        grid: Feature vectors, shape (images, regions, channels).
        captions: Word ids, START first, END last, then PAD, shape (images, captions an image, length).
        share: Of the words, in [0, 1]; START, END and padding stay.

    Returns:
        What to read, shaped like the captions.
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
        # As `multinomial` draws, which raises an error of its own where training has diverged.
        drawn = (chances / torch.empty_like(chances).exponential_()).argmax(-1)
        following = replaced[:, position + 1]
        inputs[following, position + 1] = drawn[following]
    decoder.train()
    return inputs.view_as(captions)
