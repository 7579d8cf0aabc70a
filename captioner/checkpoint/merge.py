"""Several checkpoints in one: the mean of their weights, a model soup (Wortsman et al., 2022), or an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from captioner.checkpoint import Checkpoint
from captioner.errors import CaptionerError
from captioner.models.decoder import member_prefix

_DECODER = "decoder."


def average(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """The mean of models that began with the same weights: epochs of a run, or runs with several seeds.

    It often is better than each of them, and as fast as one. Models that share no beginning have nothing in between.

    Args:
        checkpoints: At least one; of one configuration and with the same words.

    Returns:
        The mean, in float32, with a card of what all agree on and of how many there were.

    Raises:
        CaptionerError: Two are of different networks.
    """
    first, *others = checkpoints
    if not others:
        return first
    mean = {name: _precise(value) for name, value in first.weights.items()}
    for count, other in enumerate(others, start=2):
        for what, one, two in (
            ("other words", first.words, other.words),
            ("another configuration", first.config, other.config),
            ("other tensors", _shapes(first), _shapes(other)),
        ):
            if one != two:
                raise CaptionerError(
                    f"{other.origin}: has {what} than {first.origin}; only models of one kind, trained from the same "
                    "weights, have a mean"
                )
        for name, value in other.weights.items():
            if value.is_floating_point():
                # A weight that all share, as a frozen CNN's, stays what it is to the bit.
                mean[name] = torch.lerp(mean[name], _precise(value), 1 / count)
    return replace(first, weights=mean, card={**_agreed(checkpoints), "mean of checkpoints": len(checkpoints)})


def select_members(whole: Checkpoint, indices: Sequence[int]) -> Checkpoint:
    """A model with some of its decoder's members, so that it is smaller and faster.

    Args:
        whole: The model.
        indices: Of the members that stay, from 0; at least one.

    Raises:
        CaptionerError: It has no member at one of the places.
    """
    config = whole.config
    for index in indices:
        if not 0 <= index < config.decoder.members:
            raise CaptionerError(f"{whole.origin}: has no member {index}; it has {config.decoder.members}, from 0")
    weights = {name: value for name, value in whole.weights.items() if not name.startswith(_DECODER)}
    for kept, index in enumerate(indices):
        old = _DECODER + member_prefix(index, config.decoder.members)
        new = _DECODER + member_prefix(kept, len(indices))
        weights |= {new + name.removeprefix(old): v for name, v in whole.weights.items() if name.startswith(old)}
    decoder = replace(config.decoder, members=len(indices))
    return replace(whole, config=replace(config, decoder=decoder), weights=weights)


def together(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The members of an ensemble, whatever each began with, the first with the card of all.

    Args:
        checkpoints: At least one.
    """
    first, *others = checkpoints
    if not others:
        return [first]
    return [replace(first, card={**_agreed(checkpoints), "ensemble of models": len(checkpoints)}), *others]


def _agreed(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """What all cards say alike."""
    first, *others = [each.card for each in checkpoints]
    return {key: value for key, value in first.items() if all(card.get(key) == value for card in others)}


def _precise(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _shapes(checkpoint: Checkpoint) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in checkpoint.weights.items()}
