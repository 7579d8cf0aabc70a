"""The decoding loop that all methods share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from captioner.decoding.beam_search import BeamSearch, DiverseBeamSearch, RequiredPiecesSearch, RequiredWordsSearch
from captioner.decoding.constraints import Constraints
from captioner.decoding.ensemble import AnyDecoder, Ensemble
from captioner.decoding.hypotheses import BeamSnapshot, BeamState, Candidates, Hypothesis
from captioner.decoding.options import DecodingOptions
from captioner.decoding.rules import TokenRules
from captioner.decoding.sampling import Sampling
from captioner.errors import CaptionerError

HYPOTHESES_AT_ONCE = 1280
"""Hypotheses decoded together: their next-token probabilities take 49 MB for COCO's 9,490 words, and more rows do not
make matrix products faster."""


class Method(Protocol):
    """A rule for choosing tokens.

    Attributes:
        width: Hypotheses kept for each image.
        active: Indices of those that are active at the start.
    """

    width: int
    active: list[int]

    def choose(self, state: BeamState, log_probabilities: Tensor) -> Candidates:
        """Select the next hypotheses of each image, ``width`` of them."""

    def done(self, state: BeamState) -> Tensor:
        """Mask of the images that are done, shape (images,)."""

    def best(self, snapshot: BeamSnapshot, row: int) -> list[Hypothesis]:
        """Captions of one image, the best first."""


@torch.inference_mode()
def decode(
    decoder: AnyDecoder | Sequence[AnyDecoder],
    grid: Tensor | Sequence[Tensor],
    options: DecodingOptions,
    rules: TokenRules | None = None,
) -> list[list[Hypothesis]]:
    """Generate captions for a batch of images.

    An image leaves the batch when it is done. Its captions do not depend on the other images of the batch. UNKNOWN is
    never generated.

    Args:
        decoder: Anything with ``start`` and ``step``, or `MemberDecoders`; several are an `Ensemble`.
        grid: Feature vectors, shape (images, regions, channels); a list of these for several decoders.
        options: Decoding options, whose words are token ids.
        rules: Rules by whole words, for tokens that are parts of them.

    Returns:
        The captions of each image, the best first; fewer than ``num_captions`` only where fewer exist, or where
        diverse groups have found the same.

    Raises:
        CaptionerError: No caption satisfies the options.
    """
    decoders = decoder if isinstance(decoder, Sequence) else [decoder]
    grids = [grid] if isinstance(grid, Tensor) else list(grid)
    device = grids[0].device
    constraints = Constraints(options, device, rules)
    results: list[list[Hypothesis]] = []
    while len(results) < len(grids[0]):
        method = _method(options, constraints, device)
        images = slice(len(results), len(results) + max(1, HYPOTHESES_AT_ONCE // method.width))
        results += _search(decoders, [each[images] for each in grids], method, constraints)
    return results


def _method(options: DecodingOptions, constraints: Constraints, device: torch.device) -> Method:
    if options.sample:
        return Sampling(options, device)
    if len(constraints.required):
        return RequiredWordsSearch(options, constraints)
    if constraints.rules is not None and constraints.rules.required:
        return RequiredPiecesSearch(options, constraints.rules)
    return DiverseBeamSearch(options) if options.diverse_groups > 1 else BeamSearch(options)


def _search(
    decoders: Sequence[AnyDecoder], grids: Sequence[Tensor], method: Method, constraints: Constraints
) -> list[list[Hypothesis]]:
    images = len(grids[0])
    state = BeamState(Ensemble(decoders, grids), images, method.width, method.active)
    results: list[list[Hypothesis]] = [[] for _ in range(images)]
    prompt, max_words = constraints.options.prompt_ids, constraints.options.max_words
    for token in prompt:
        state.force(token)
    for length in range(len(prompt) + 1, max_words + 1):
        log_probabilities = state.step()
        constraints.apply(log_probabilities, state.tokens)
        state.extend(method.choose(state, log_probabilities))
        done = method.done(state) | (length == max_words)
        if done.any():
            snapshot = state.snapshot(done.nonzero().flatten())
            for row, image in enumerate(snapshot.images.tolist()):
                results[image] = method.best(snapshot, row)
            state.keep((~done).nonzero().flatten())
        if not len(state.images):
            break
    if not all(results):
        most = max_words if constraints.rules is None else constraints.rules.max_words
        raise CaptionerError(
            f"no caption of at most {most} words meets the options; raise max words, or forbid or require less"
        )
    return results
