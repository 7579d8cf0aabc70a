"""Stacked recurrent cells, for one token at a time or a whole sentence at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from captioner.models.decoder.ops import Unrolled, linear
from captioner.models.decoder.state import RecurrentState


class StackedCells(nn.RNNBase):
    """Stacked layers of a recurrent cell.

    A layer computes all its gates in one affine map W_x x + W_h h + b. Dropout acts between layers, never along time
    (Zaremba et al., 2014), unless masks for the whole sentence are given.

    The parameters are those of torch's own layers, whose fused kernels process sentences that are known in advance;
    `step` is the same computation for a sentence that is being generated.

    Args:
        input_size: Length of the input x.
        hidden_size: Length of h.
        layers: Number of layers.
        dropout: Dropout rate of h between layers.
    """

    parts = 1
    """Number of tensors of a layer's state."""
    gates = 1
    """Number of gates: rows of the affine map over hidden_size."""
    fused = True
    """Whether torch has a fused kernel for whole sentences."""

    def __init__(self, input_size: int, hidden_size: int, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__(input_size, hidden_size, layers, dropout=dropout if layers > 1 else 0.0)  # type: ignore[arg-type]
        with torch.no_grad():
            for layer in range(layers):
                _, recurrent, *biases = self.weights(layer)
                # An orthogonal W_h preserves the norm of h.
                for gate in recurrent.chunk(self.gates):
                    nn.init.orthogonal_(gate)
                for bias in biases:
                    nn.init.zeros_(bias)

    def weights(self, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W_x, W_h and the two biases of a layer, with the gates one after another in their rows."""
        return tuple(getattr(self, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))

    def project(self, x: Tensor, layer: int = 0) -> Tensor:
        """Compute the input's share of a layer's affine map: (…, input) → (…, gates · hidden_size)."""
        weight, _, bias_x, bias_h = self.weights(layer)
        return linear(x, weight, bias_x + bias_h)

    def step(self, projected: Tensor, state: RecurrentState, masks: Tensor | None = None) -> RecurrentState:
        """Advance every sentence by one token.

        Args:
            projected: Input of the lowest layer after `project`, shape (sentences, gates · hidden_size), so that the
                caller can project the inputs of many steps at once.
            state: State of all layers.
            masks: Masks of variational dropout, as in `captioner.models.decoder.state.State`.

        Returns:
            The new state.
        """
        layers = [self.step_layer(0, projected, state, masks)]
        for layer in range(1, self.num_layers):
            layers.append(self.step_layer(layer, self.project_up(layers[-1][0], layer, masks), state, masks))
        return stack_layers(layers)

    def project_up(self, below: Tensor, layer: int, masks: Tensor | None = None) -> Tensor:
        """Project h of the layer below, after dropout, to a layer's affine map."""
        kept = dropout(below, self.dropout, self.training) if masks is None else below * masks[:, 1, layer - 1]
        return self.project(kept, layer)

    def step_layer(
        self, layer: int, projected: Tensor, state: RecurrentState, masks: Tensor | None = None
    ) -> RecurrentState:
        """Advance one layer and return its new state, tensors of shape (sentences, hidden_size)."""
        old = tuple(part[:, layer] for part in state)
        return self.update(layer, projected, old[0] if masks is None else old[0] * masks[:, 0, layer], old)

    def update(self, layer: int, projected: Tensor, hidden: Tensor, old: RecurrentState) -> RecurrentState:
        """Compute the equations of one layer.

        Args:
            layer: Index of the layer.
            projected: Return value of `project`, shape (sentences, gates · hidden_size).
            hidden: h_{t-1} as the gates receive it, shape (sentences, hidden_size): that of `old` after dropout.
            old: The layer's state, tensors of shape (sentences, hidden_size).

        Returns:
            The layer's new state.
        """
        raise NotImplementedError

    def unroll(self, x: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """Advance every sentence by several tokens at once; for ``fused`` cells.

        Args:
            x: Inputs of the lowest layer, shape (sentences, steps, input).
            state: State of all layers.

        Returns:
            h of the top layer after each step, shape (sentences, steps, hidden_size), and the final state.
        """
        states = tuple(part.transpose(0, 1).contiguous() for part in state)
        outputs, ends = self(x.transpose(0, 1), states if self.parts > 1 else states[0])
        ends = ends if self.parts > 1 else (ends,)
        return outputs.transpose(0, 1), tuple(part.transpose(0, 1) for part in ends)


class StackedRNN(StackedCells, nn.RNN):
    """Vanilla RNN layers: h_t = tanh(W_x x + W_h h_{t-1} + b) (Elman, 1990)."""

    def update(self, layer: int, projected: Tensor, hidden: Tensor, old: RecurrentState) -> RecurrentState:
        """The equation above."""
        return (torch.tanh(projected + Unrolled.linear(hidden, self.weights(layer)[1])),)


class StackedGRU(StackedCells, nn.GRU):
    """Gated recurrent units (Cho et al., 2014), in the form that torch and cuDNN compute.

    With reset gate r, update gate z and candidate n, the rows of W in this order:
    n_t = tanh(W_xn x + b_xn + σ(r) · (W_hn h_{t-1} + b_hn)), h_t = (1 - σ(z)) · n_t + σ(z) · h_{t-1}.
    """

    gates = 3

    def project(self, x: Tensor, layer: int = 0) -> Tensor:
        """All biases but the candidate's second one, which the reset gate multiplies."""
        weight, _, bias_x, bias_h = self.weights(layer)
        outer = torch.cat([bias_h[: 2 * self.hidden_size], torch.zeros_like(bias_h[2 * self.hidden_size :])])
        return linear(x, weight, bias_x + outer)

    def update(self, layer: int, projected: Tensor, hidden: Tensor, old: RecurrentState) -> RecurrentState:
        """The equations above."""
        _, weight, _, bias = self.weights(layer)
        recurrent = Unrolled.linear(hidden, weight)
        size = self.hidden_size
        r, z = torch.sigmoid(projected[:, : 2 * size] + recurrent[:, : 2 * size]).chunk(2, dim=-1)
        n = torch.tanh(projected[:, 2 * size :] + r * (recurrent[:, 2 * size :] + bias[2 * size :]))
        return (n + z * (old[0] - n),)


class StackedLSTM(StackedCells, nn.LSTM):
    """LSTM layers (Hochreiter and Schmidhuber, 1997; Gers et al., 2000).

    Input gate i, forget gate f, candidate g and output gate o, the rows of W in this order:
    c_t = σ(f) · c_{t-1} + σ(i) · tanh(g) and h_t = σ(o) · tanh(c_t).
    """

    parts = 2
    gates = 4

    def __init__(self, input_size: int, hidden_size: int, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__(input_size, hidden_size, layers, dropout)
        with torch.no_grad():
            for layer in range(layers):
                # A forget gate that starts open lets gradients through from the first step (Jozefowicz et al., 2015).
                self.weights(layer)[2][hidden_size : 2 * hidden_size] = 1.0

    def update(self, layer: int, projected: Tensor, hidden: Tensor, old: RecurrentState) -> RecurrentState:
        """The equations above."""
        i, f, g, o = (projected + Unrolled.linear(hidden, self.weights(layer)[1])).chunk(4, dim=-1)
        c = torch.sigmoid(f) * old[1] + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class PeepholeLSTM(StackedLSTM):
    """LSTM layers with peepholes: p_i · c_{t-1}, p_f · c_{t-1} and p_o · c_t are added to i, f and o.

    The peepholes p are vectors, one weight for each element of c (Gers and Schmidhuber, 2000).
    """

    fused = False

    def __init__(self, input_size: int, hidden_size: int, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__(input_size, hidden_size, layers, dropout)
        self.peepholes = nn.Parameter(torch.zeros(layers, 3, hidden_size))

    def update(self, layer: int, projected: Tensor, hidden: Tensor, old: RecurrentState) -> RecurrentState:
        """The equations above, with peepholes."""
        i, f, g, o = (projected + Unrolled.linear(hidden, self.weights(layer)[1])).chunk(4, dim=-1)
        p_i, p_f, p_o = self.peepholes[layer]
        c = torch.sigmoid(f + p_f * old[1]) * old[1] + torch.sigmoid(i + p_i * old[1]) * torch.tanh(g)
        return torch.sigmoid(o + p_o * c) * torch.tanh(c), c


def stack_layers(layers: Sequence[RecurrentState]) -> RecurrentState:
    """Stack the states of several layers."""
    return tuple(torch.stack(parts, dim=1) for parts in zip(*layers, strict=True))


CELLS: dict[str, type[StackedCells]] = {
    "rnn": StackedRNN,
    "gru": StackedGRU,
    "lstm": StackedLSTM,
    "peephole": PeepholeLSTM,
}
"""The classes by their names in `captioner.models.decoder.config.DecoderConfig`."""
