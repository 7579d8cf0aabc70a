"""Attention over the feature grid: additive, multiplicative, multi-head and hard."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from captioner.models.decoder.ops import Linear, Unrolled, linear
from captioner.models.decoder.ragged import Layout


class AttentionOutput(NamedTuple):
    """The result of attending to an image.

    Attributes:
        context: Context vectors, shape (sentences, context_size).
        weights: Attention weights, shape (sentences, regions), rows sum to 1.
        chosen: Logarithm of the weight of the sampled region, shape (sentences,); None where none is sampled.
    """

    context: Tensor
    weights: Tensor
    chosen: Tensor | None = None


class GridAttention(nn.Module):
    """Attention over the regions of a grid, with a gated context; subclasses define the score.

    The weights p are the softmax of the scores. The context is z = β Σ p_i v_i with the scalar gate β = σ(w_β h + b_β),
    which lets a word such as "of" ignore the image (Show, Attend and Tell, section 4.2.1).

    Args:
        channels: Length of a feature vector.
        hidden_size: Length of the decoder's hidden state.
        size: Dimension of the space in which both are compared.
    """

    context_size: int
    """Length of the context."""
    mixes_features = True
    """Whether the context is a weighted mean of one vector per region, so that these can be projected in advance."""

    def __init__(self, channels: int, hidden_size: int, size: int) -> None:
        super().__init__()
        self.context_size = channels
        self.key = Linear(channels, size)
        self.query = Linear(hidden_size, size, bias=False)
        self.gate = Linear(hidden_size, 1)

    def keys(self, grid: Tensor) -> Tensor:
        """Project the grid to keys, once per image.

        Args:
            grid: Feature vectors, shape (images, regions, channels).

        Returns:
            Keys, shape (images, regions, size); with several heads, followed by their values.
        """
        keys: Tensor = self.key(grid)
        return keys

    def queries(self, hidden: Tensor) -> Tensor:
        """Project the hidden state to queries: (sentences, hidden_size) → (sentences, size)."""
        return Unrolled.linear(hidden, self.query.weight)

    def compare(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Score each region for each query, up to a constant per query.

        Args:
            queries: Queries of the sentences of each image, shape (images, sentences per image, size).
            keys: Return value of `keys`.

        Returns:
            Scores, shape (images, sentences per image, regions).
        """
        raise NotImplementedError

    def forward(self, hidden: Tensor, keys: Tensor, values: Tensor, layout: Layout) -> AttentionOutput:
        """Attend to the image of each sentence.

        Args:
            hidden: Hidden state of the decoder, shape (sentences, hidden_size).
            keys: Return value of `keys`.
            values: The vectors v_i, shape (images, regions, size of the context).
            layout: Assignment of sentences to images.

        Returns:
            The gated context and the weights p.
        """
        weights = self.compare(layout.to_block(self.queries(hidden)), keys).softmax(-1)
        context = layout.to_sentences(Unrolled.matmul(weights, values))
        return AttentionOutput(self.gated(context, hidden), layout.to_sentences(weights))

    def gated(self, context: Tensor, hidden: Tensor) -> Tensor:
        """Gate a context z: β z, shape (sentences, context_size)."""
        return torch.sigmoid(self.gate(hidden)) * context


SCRATCH_VALUES = 1 << 20
"""Intermediate values held at a time while queries and keys are compared: 4 MB in float32, which fit a CPU's cache."""

LARGEST = 40.0
"""Bound to which W_v v and W_h h are clamped: e^(2 · 40) and its inverse are finite in float32, so that no product is
0 · ∞."""


class AdditiveAttention(GridAttention):
    """Additive attention: the score is wᵀ tanh(W_v v_i + b_v + W_h h) (Bahdanau et al., 2015; Show, Attend and Tell).

    Since tanh(a + b) = 1 - 2 / (1 + e^2a e^2b), the exponentials of keys and queries are computed separately: each pair
    of a region and a sentence then costs a product and a division, a tenth of the time of tanh on a CPU. The constant
    Σ w is left out of the scores.
    """

    def __init__(self, channels: int, hidden_size: int, size: int) -> None:
        super().__init__(channels, hidden_size, size)
        self.energy = Linear(size, 1, bias=False)  # a bias would cancel in the softmax

    def keys(self, grid: Tensor) -> Tensor:
        """Compute e^(2 (W_v v_i + b_v)) for each region, in float32 or higher."""
        return exponential(self.key(grid))

    def queries(self, hidden: Tensor) -> Tensor:
        """Compute e^(2 W_h h) for each sentence, in float32 or higher."""
        return exponential(super().queries(hidden))

    def compare(self, queries: Tensor, keys: Tensor) -> Tensor:
        """The equation above."""
        if torch.compiler.is_compiling():  # a graph has no loop over as many images as there are
            return _quotients(keys.unsqueeze(1), queries.unsqueeze(2)) @ self._weight(keys)
        scores: Tensor = _Scores.apply(keys, queries, self._weight(keys))
        return scores

    def compare_pairs(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Score one key per sentence: both have the shape (sentences, size), the scores (sentences,)."""
        return _quotients(keys, queries) @ self._weight(keys)

    def _weight(self, keys: Tensor) -> Tensor:
        return -2 * self.energy.weight[0].to(keys.dtype)


class _Scores(Function):
    """Σ_d w_d / (1 + k_d q_d) for all pairs of regions and sentences of an image.

    A CPU takes as many images at a time as fit its cache; backward recomputes the quotients, which is cheaper there
    than reading them from memory.
    """

    @staticmethod
    def forward(ctx: Any, keys: Tensor, queries: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(keys, queries, weight)
        with torch.autocast(keys.device.type, enabled=False):
            parts = _parts(keys, queries)
            return torch.cat([_quotients(keys[p].unsqueeze(1), queries[p].unsqueeze(2)) @ weight for p in parts])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401
        keys, queries, weight = ctx.saved_tensors
        of_keys, of_queries, of_weight = torch.empty_like(keys), torch.empty_like(queries), torch.zeros_like(weight)
        for part in _parts(keys, queries):
            key, query = keys[part].unsqueeze(1), queries[part].unsqueeze(2)
            share = _quotients(key, query)  # (images, n, regions, size)
            of_weight += gradient[part].flatten() @ share.flatten(0, 2)
            # With s = 1 / (1 + k q), k ds/dk and q ds/dq are the same s² - s, so that one product serves both.
            slope = torch.addcmul(share, share, share, value=-1, out=share).mul_(gradient[part].unsqueeze(3))
            of_keys[part] = slope.sum(dim=1)
            of_queries[part] = slope.sum(dim=2)
        return of_keys.div_(keys).mul_(-weight), of_queries.div_(queries).mul_(-weight), of_weight


def _quotients(keys: Tensor, queries: Tensor) -> Tensor:
    """Compute 1 / (1 + k q) for all pairs."""
    return torch.addcmul(keys.new_ones(()), keys, queries).reciprocal_()


def _parts(keys: Tensor, queries: Tensor) -> list[slice]:
    """Chunks of images that are compared together."""
    images, regions, size = keys.shape
    at_once = images if keys.is_cuda else max(1, SCRATCH_VALUES // (regions * size * queries.shape[1]))
    return [slice(begin, begin + at_once) for begin in range(0, images, at_once)]


def exponential(x: Tensor) -> Tensor:
    """Compute e^2x in float32 or higher."""
    return (2 * x.to(torch.promote_types(x.dtype, torch.float32)).clamp(-LARGEST, LARGEST)).exp()


class MultiplicativeAttention(GridAttention):
    """Multiplicative attention: the score is (W_h h)ᵀ (W_v v_i + b_v) / √size.

    This is hᵀ W v (Luong et al., 2015, "general") with a low-rank W = W_hᵀ W_v, scaled so that the variance does not
    grow with the size (Vaswani et al., 2017).
    """

    def keys(self, grid: Tensor) -> Tensor:
        """Compute (W_v v_i + b_v) / √size, as columns: shape (images, size, regions)."""
        keys = super().keys(grid)
        return keys.mT / math.sqrt(keys.shape[2])

    def compare(self, queries: Tensor, keys: Tensor) -> Tensor:
        """The equation above."""
        return Unrolled.matmul(queries, keys)


class MultiHeadAttention(GridAttention):
    """Multi-head attention (Vaswani et al., 2017).

    Head j compares in its own subspace and has its own values: z_j = W_j Σ p_{j,i} v_i. The context is the
    concatenation of all z_j, and the returned weights are the mean over the heads.

    Args:
        channels: Length of a feature vector.
        hidden_size: Length of the decoder's hidden state.
        size: Dimension of the space of all heads together, a multiple of their number.
        heads: Number of heads.
    """

    mixes_features = False

    def __init__(self, channels: int, hidden_size: int, size: int, heads: int) -> None:
        super().__init__(channels, hidden_size, size)
        self.heads = heads
        self.context_size = size
        self.value = nn.Parameter(torch.empty(heads, size // heads, channels))
        bound = 1 / math.sqrt(channels)  # as in nn.Linear
        nn.init.uniform_(self.value, -bound, bound)

    def keys(self, grid: Tensor) -> Tensor:
        """Keys of all heads and then values W_j v_i of all heads, for each region.

        The projection of a mean is the mean of the projections, and the captions of an image have about as many tokens
        as it has regions.
        """
        return torch.cat([super().keys(grid), linear(grid, self.value.flatten(0, 1))], dim=-1)

    def forward(self, hidden: Tensor, keys: Tensor, values: Tensor, layout: Layout) -> AttentionOutput:
        """Attend to the image of each sentence with every head."""
        images, regions, _ = keys.shape
        size = self.context_size
        key, value = keys.view(images, regions, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        query = layout.to_block(self.queries(hidden)).view(images, -1, self.heads, size // self.heads)
        scores = query.transpose(1, 2) @ key.transpose(2, 3) / math.sqrt(size // self.heads)
        weights = scores.softmax(-1)  # (images, heads, n, cells)
        context = layout.to_sentences((weights @ value).transpose(1, 2).reshape(images, -1, size))
        return AttentionOutput(self.gated(context, hidden), layout.to_sentences(weights.mean(dim=1)))


class HardAttention(AdditiveAttention):
    """Stochastic "hard" attention: the context is β v_s of a single region s (Show, Attend and Tell, section 4.1).

    In training, s is sampled from the weights p, and since sampling has no gradient, p is trained by REINFORCE
    (`captioner.training.objectives.location.location_loss`). In inference, s is the most likely region, so that
    captions are deterministic.
    """

    def forward(self, hidden: Tensor, keys: Tensor, values: Tensor, layout: Layout) -> AttentionOutput:
        """Attend to one region of the image of each sentence."""
        scores = self.compare(layout.to_block(self.queries(hidden)), keys)  # (images, n, regions)
        logarithms = scores.log_softmax(-1)
        weights = logarithms.exp()
        if self.training:
            # Sampling as `multinomial` does it, which would raise its own error where training has diverged.
            regions = (weights.detach() / torch.empty_like(weights).exponential_()).argmax(-1, keepdim=True)
        else:
            regions = weights.argmax(-1, keepdim=True)
        context = layout.to_sentences(values.gather(1, regions.expand(-1, -1, values.shape[2])))
        chosen = layout.to_sentences(logarithms.gather(2, regions)).squeeze(1)
        return AttentionOutput(self.gated(context, hidden), layout.to_sentences(weights), chosen)
