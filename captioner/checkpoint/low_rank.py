"""Low-rank projection of the feature vectors of a trained captioner, which makes its decoder faster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from captioner.checkpoint import Checkpoint
from captioner.data.transforms import read_scaled, to_pixels
from captioner.errors import CaptionerError
from captioner.models.captioner import CaptionerConfig, CaptionModel
from captioner.models.decoder import make_decoder
from captioner.models.encoder import PROJECTION
from captioner.utils.threads import map_in_threads

_DECODER = "decoder."
_LEAST = 1e-7
"""Smallest eigenvalue of the second-moment matrix, relative to the largest, that float32 can distinguish from 0."""
_BATCH = 64


@torch.inference_mode()
def encode_files(model: CaptionModel, images: Sequence[Path]) -> Iterator[Tensor]:
    """Encode image files in batches.

    Args:
        model: The captioner.
        images: Image files.

    Yields:
        Feature vectors of the next images, shape (images, regions, channels).

    Raises:
        CaptionerError: An image cannot be read.
    """
    transform = model.config.transform
    for start in range(0, len(images), _BATCH):
        several = images[start : start + _BATCH]
        read = map_in_threads(partial(read_scaled, transform), several, torch.get_num_threads())
        pixels = torch.stack([to_pixels(image) for image in read])
        yield model.encoder(transform.normalize(pixels))


@torch.inference_mode()
def measure_second_moment(whole: Checkpoint, images: Sequence[Path]) -> Tensor:
    """Compute the second-moment matrix of the feature vectors: the mean of v vᵀ over all regions of some images.

    Args:
        whole: The captioner.
        images: Image files, at least one.

    Returns:
        The matrix in double precision, shape (channels, channels).

    Raises:
        CaptionerError: The checkpoint is not of a captioner, or an image cannot be read.
    """
    model, _ = whole.build()
    total, regions = torch.zeros(model.encoder.channels, model.encoder.channels, dtype=torch.double), 0
    for grid in encode_files(model, images):
        vectors = grid.flatten(0, 1)
        total += vectors.T @ vectors
        regions += len(vectors)
    return total / regions


def project_to_low_rank(whole: Checkpoint, size: int, second_moment: Tensor) -> Checkpoint:
    """Insert a linear projection after the CNN of a captioner, with the least effect on its decoder.

    Of all projections of a feature vector v to ``size`` dimensions, it changes the products W v least, in mean square,
    where W stacks all matrices of the decoder that multiply v. With E v vᵀ = L Lᵀ and the largest singular values of
    W L = U S Vᵀ, v becomes Vᵀ L⁻¹ v and W becomes W L V (Eckart and Young, 1936).

    Args:
        whole: The captioner.
        size: New length of the feature vectors, less than their present length.
        second_moment: Return value of `measure_second_moment`, shape (channels, channels).

    Returns:
        The captioner with the new configuration, the projection, and the decoder's new matrices.

    Raises:
        CaptionerError: The checkpoint is of a language model, has a projection already, or its feature vectors are not
            longer than ``size``.
    """
    channels, config = len(second_moment), whole.config
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
    values, axes = torch.linalg.eigh(second_moment.double())
    # Along directions without variance, which few images leave, L would have no inverse.
    root = axes * values.clamp(min=values.max() * _LEAST).sqrt()
    products = stacked @ root
    directions = torch.linalg.eigh(products.T @ products).eigenvectors[:, -size:]
    forth, back = directions.T @ torch.linalg.inv(root), root @ directions
    weights = {**whole.weights, f"encoder.{PROJECTION}.weight": forth.float()}
    for name in multiplying:
        weights[_DECODER + name] = (whole.weights[_DECODER + name].double() @ back).float()
    return replace(whole, config=replace(config, feature_size=size), weights=weights)
