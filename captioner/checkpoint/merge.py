"""Merging of checkpoints into a model soup (Wortsman et al., 2022) or an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from captioner.checkpoint import Checkpoint
from captioner.errors import CaptionerError
from captioner.models.captioner import CaptionerConfig
from captioner.models.decoder import member_prefix

_DECODER = "decoder."


def average(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """Average the weights of models that were fine-tuned from the same weights: a model soup.

    It is often better than each of them, and as fast as one. The average of models with different initial weights is
    useless.

    Args:
        checkpoints: At least one; of one configuration and vocabulary.

    Returns:
        The average in float32, with the entries of the model cards that agree, and the number of checkpoints.

    Raises:
        CaptionerError: Configurations, vocabularies or tensors differ.
    """
    first, *others = checkpoints
    if not others:
        return first
    mean = {name: _precise(value) for name, value in first.weights.items()}
    for count, other in enumerate(others, start=2):
        for what, one, two in (
            ("other words", (first.words, first.tokenizer), (other.words, other.tokenizer)),
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
                # A weight that all share, such as a frozen CNN's, stays bitwise equal.
                mean[name] = torch.lerp(mean[name], _precise(value), 1 / count)
    card = {**_agreed(checkpoints), "mean of checkpoints": len(checkpoints)}
    return _without_confidence(replace(first, weights=mean, card=card))


def select_members(whole: Checkpoint, indices: Sequence[int]) -> Checkpoint:
    """Select members of a model's decoder, which makes it smaller and faster.

    Args:
        whole: The model.
        indices: Indices of the members to keep, from 0; at least one.

    Raises:
        CaptionerError: The decoder has no member of an index.
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
    return _without_confidence(replace(whole, config=replace(config, decoder=decoder), weights=weights))


def together(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Combine models to the members of an ensemble, whose first one gets the model card of all.

    Args:
        checkpoints: At least one.
    """
    first, *others = checkpoints
    if not others:
        return [first]
    return [replace(first, card={**_agreed(checkpoints), "ensemble of models": len(checkpoints)}), *others]


def _without_confidence(changed: Checkpoint) -> Checkpoint:
    """A model that was changed, without the confidence that was fitted to what it was."""
    if not isinstance(changed.config, CaptionerConfig) or not changed.config.confidence:
        return changed
    weights = {name: value for name, value in changed.weights.items() if not name.startswith("confidence.")}
    card = {name: value for name, value in changed.card.items() if name != "confidence"}
    return replace(changed, config=replace(changed.config, confidence=False), weights=weights, card=card)


def _agreed(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Entries that all model cards agree on."""
    first, *others = [each.card for each in checkpoints]
    return {key: value for key, value in first.items() if all(card.get(key) == value for card in others)}


def _precise(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _shapes(checkpoint: Checkpoint) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in checkpoint.weights.items()}
