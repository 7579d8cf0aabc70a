"""Shorter feature vectors for a decoder that has learned: what it multiplies at every word becomes smaller."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from captioner.checkpoint import Checkpoint
from captioner.decoder import make_decoder
from captioner.encoder import PROJECTION
from captioner.errors import CaptionerError
from captioner.model import CaptionerConfig

_DECODER = "decoder."
_RIDGE = 1e-6
"""Share of the mean square of a number that is added to that of each, against rounding."""


def shorten(whole: Checkpoint, size: int, moment: Tensor) -> Checkpoint:
    """Puts a linear map behind a captioner's CNN, after which its decoder sees nearly what it saw.

    Of all maps of a feature vector v to so many numbers, it is the one that changes the products W v least, in the mean
    of their squares, where W is all matrices of the decoder that multiply v, one below the other. With E v vᵀ = L Lᵀ
    and the largest singular values of W L = U S Vᵀ, v becomes Vᵀ L⁻¹ v and W becomes W L V (Eckart and Young, 1936).

    Args:
        whole: The captioner.
        size: Length of the vectors to come, less than that of those there are.
        moment: Mean of v vᵀ over the cells of many images, shape (channels, channels).

    Returns:
        The same with another configuration, other matrices, and the map's.

    Raises:
        CaptionerError: It is a language model, has such a map already, or its vectors are no longer than that.
    """
    channels, config = len(moment), whole.config
    if not isinstance(config, CaptionerConfig):
        raise CaptionerError(f"{whole.origin}: is of a language model, which sees no feature vectors")
    if config.feature_size is not None:
        raise CaptionerError(f"{whole.origin}: its feature vectors have been shortened already")
    if not 0 < size < channels:
        raise CaptionerError(f"{whole.origin}: its feature vectors have {channels} numbers; {size} must be fewer")
    with torch.device("meta"):
        shapes = make_decoder(config.decoder, size, len(whole.words)).state_dict()
    multiplying = [name for name, value in shapes.items() if value.shape != whole.weights[_DECODER + name].shape]
    stacked = torch.cat([whole.weights[_DECODER + name].double().flatten(0, -2) for name in multiplying])
    # Where the images fill no more than a part of the space, as few of them do, there is no root of their moment.
    some = moment.double() + torch.eye(channels) * moment.diagonal().mean() * _RIDGE
    root = torch.linalg.cholesky(some)
    directions = torch.linalg.svd(stacked @ root, full_matrices=False).Vh[:size]
    forth = torch.linalg.solve_triangular(root, directions, upper=False, left=False)
    back = root @ directions.T
    weights = {**whole.weights, f"encoder.{PROJECTION}.weight": forth.float()}
    for name in multiplying:
        weights[_DECODER + name] = (whole.weights[_DECODER + name].double() @ back).float()
    return replace(whole, config=replace(config, feature_size=size), weights=weights)
