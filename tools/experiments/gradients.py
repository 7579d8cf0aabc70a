"""How far back a loss reaches in a decoder's recurrence, and how open the gates of its cells are.

All of it is computed by the decoder's own `Decoder.step`; nothing of the cells is written a second time but the three
lines of `gate_values`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from captioner.models.decoder import Decoder

GATES = ("input", "forget", "output")
"""The gates of an LSTM."""


def no_pictures(sentences: int) -> Tensor:
    """The grid of a language model, shape (sentences, no cells, no channels)."""
    return torch.zeros(sentences, 0, 0)


def gradient_norms(decoder: Decoder, words: Tensor) -> Tensor:
    """How much what was remembered at each step matters for the last word: ‖∂loss_T / ∂h_t‖, and ‖∂loss_T / ∂c_t‖.

    Args:
        decoder: A language model of one layer.
        words: T words to read and the one that is to come, shape (sentences, T + 1).

    Returns:
        By the part of the memory (h and, where the cell has one, c) and the distance T - t, shape (parts, sentences,
        T); distance 0 is the step that the last word is told from.
    """
    grid = no_pictures(len(words))
    state, memories = decoder.start(grid), []
    for word in words[:, :-1].unbind(dim=1):
        logits, state, _ = decoder.step(word, state, grid)
        memories.append(state.recurrent)
    # No sentence touches another, so the gradient of the sum holds that of each.
    loss = cross_entropy(logits, words[:, -1], reduction="sum")
    parts = list(zip(*reversed(memories), strict=True))  # of each part, its T tensors, the last first
    gradients = torch.autograd.grad(loss, [each for part in parts for each in part], materialize_grads=True)
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients])
    return norms.view(len(parts), len(memories), len(words)).transpose(1, 2)


def largest_singular_value(decoder: Decoder) -> float:
    """The largest singular value of W_h: what a step can stretch a gradient by; of gated cells, of any gate's W_h."""
    cells = decoder.core.cells
    return max(float(torch.linalg.matrix_norm(gate, 2)) for gate in cells.weights(0)[1].detach().chunk(cells.gates))


@torch.no_grad()
def gate_values(decoder: Decoder, words: Tensor) -> Tensor:
    """The gates of an LSTM as it reads a sentence: σ(W_x x_t + W_h h_{t-1} + b).

    Args:
        decoder: A language model of one layer of ``lstm``.
        words: The sentence, shape (T,).

    Returns:
        Each of `GATES` after each word, shape (3, T, hidden_size), in (0, 1).
    """
    grid, weight = no_pictures(1), decoder.core.cells.weights(0)[1]
    state, values = decoder.start(grid), []
    for word in words.view(-1, 1):
        affine = decoder.core.project(decoder.embedding(word)) + linear(state.hidden[:, 0], weight)
        i, f, _, o = torch.sigmoid(affine[0]).chunk(4)
        values.append(torch.stack([i, f, o]))
        _, state, _ = decoder.step(word, state, grid)
    return torch.stack(values, dim=1)
