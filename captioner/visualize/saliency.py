"""Saliency maps for any model: the gradient of a word's log-probability with respect to the image.

Deep Inside Convolutional Networks (Simonyan et al., 2014), section 3, for words of a caption instead of classes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from captioner.caption import Caption
from captioner.captioning import BaseCaptioner
from captioner.data.images import ImageSource, open_image
from captioner.decoding.ensemble import Ensemble
from captioner.errors import CaptionerError
from captioner.pipeline import Captioner
from captioner.text.vocabulary import START

CELLS = 14
"""Rows and columns of a map. Gradients of single pixels are noisy, so they are averaged over regions."""


def gradient_saliency(model: BaseCaptioner, image: ImageSource, caption: Caption) -> Caption:
    """Replace a caption's attention maps by maps of the input gradient.

    The value of a region is the mean over its pixels of the norm of ∂ log p(word) / ∂(R, G, B), given the previous
    words; for an ensemble, the sum over its members, each with its own preprocessing.

    Args:
        model: The captioner that generated the caption.
        image: The captioned image.
        caption: The caption.

    Returns:
        The caption and its alternatives, with ``attention`` of shape (words, 14, 14), each map sums to 1.

    Raises:
        CaptionerError: The image is unreadable, or members of an ensemble see different parts of it.
    """
    if not isinstance(model, Captioner):
        raise CaptionerError("gradients need the checkpoint and torch; open that with torch, or look at attention")
    if model.vocabulary.tokenizer is not None:
        raise CaptionerError("gradients are of English words alone; look at attention")
    transforms = [member.config.transform for member in model.members]
    if len({transform.resize for transform in transforms}) > 1:
        raise CaptionerError("the models of this ensemble see other parts of a photograph each; give one of them")
    photograph = open_image(image, max(transform.enough for transform in transforms))
    pixels = [each(photograph).to(model.device).unsqueeze(0).requires_grad_() for each in transforms]
    with torch.enable_grad():
        grids = [member.encoder(seen) for member, seen in zip(model.members, pixels, strict=True)]
        captions = [
            replace(each, attention=_maps(model, pixels, grids, each.words), alternatives=())
            for each in (caption, *caption.alternatives)
        ]
    return replace(captions[0], alternatives=tuple(captions[1:]))


def _maps(model: Captioner, pixels: list[Tensor], grids: list[Tensor], words: tuple[str, ...]) -> np.ndarray:
    """Compute one map per word, float32, shape (words, rows, columns)."""
    decoders = Ensemble([member.decoder for member in model.members], grids)
    side = min(CELLS, *(seen.shape[-1] for seen in pixels))
    before = START
    maps = np.empty((len(words), side, side), np.float32)
    # Word by word: cuDNN's fused LSTM has no backward in evaluation mode.
    for index, word in enumerate(model.vocabulary.id(word) for word in words):
        log_probabilities, _ = decoders.step(torch.tensor([before], device=model.device))
        gradients = torch.autograd.grad(log_probabilities[0, word], pixels, retain_graph=True)
        cells = torch.zeros(side, side, dtype=torch.float64, device=model.device)
        for gradient in gradients:
            lengths = gradient.norm(dim=1, keepdim=True)  # (1, 1, size, size)
            cells += adaptive_avg_pool2d(lengths, side)[0, 0]
        # Zero gradients give a uniform map.
        cells = cells / cells.sum() if cells.sum() > 0 else torch.full_like(cells, 1 / cells.numel())
        maps[index] = cells.cpu().numpy()
        before = word
    return maps
