"""The recurrent network: stacked LSTM layers, a word at a time or a whole sentence at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear


class StackedLSTM(nn.LSTM):
    """LSTM layers, each fed by the hidden state of the one below.

    A layer has its input gate i, forget gate f, candidate g and output gate o in one affine product
    [i f g o] = W_x x + W_h h + b; then c_t = σ(f) · c_{t-1} + σ(i) · tanh(g) and h_t = σ(o) · tanh(c_t)
    (Hochreiter and Schmidhuber, 1997; Gers et al., 2000). Dropout acts between layers, never along time
    (Zaremba et al., 2014).

    The parameters are those of `torch.nn.LSTM`, so that a sentence known in advance runs through its fused kernel;
    `step` writes the same arithmetic out for a sentence that is still being written.
    """

    def __init__(self, input_size: int, hidden_size: int, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__(input_size, hidden_size, layers, dropout=dropout if layers > 1 else 0.0)
        with torch.no_grad():
            for layer in range(layers):
                weights = self.weights(layer)
                # An orthogonal W_h keeps the length of what it carries; a forget gate that starts open (Jozefowicz et
                # al., 2015) lets gradients through from the first step. Torch adds two biases; the second stays 0.
                for gate in weights[1].chunk(4):
                    nn.init.orthogonal_(gate)
                nn.init.zeros_(weights[2])
                nn.init.zeros_(weights[3])
                weights[2][hidden_size : 2 * hidden_size] = 1.0

    def weights(self, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W_x, W_h and the two biases of a layer; their rows hold the gates in the order i, f, g, o."""
        return tuple(getattr(self, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))

    def step(self, projected: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Advances every sentence by one word.

        Args:
            projected: W_x x + b of the lowest layer, shape (sentences, 4 · hidden_size), so that the caller may compute
                what it knows of x for many steps at once.
            hidden: h of every layer, shape (sentences, layers, hidden_size).
            cell: c of every layer, likewise.

        Returns:
            The new hidden and cell states, shaped like the old ones.
        """
        hiddens: list[Tensor] = []
        cells: list[Tensor] = []
        for layer in range(self.num_layers):
            weight_x, weight_h, bias_x, bias_h = self.weights(layer)
            if layer > 0:
                below = dropout(hiddens[-1], self.dropout, self.training)
                projected = linear(below, weight_x, bias_x + bias_h)
            i, f, g, o = (projected + linear(hidden[:, layer], weight_h)).chunk(4, dim=-1)
            c = torch.sigmoid(f) * cell[:, layer] + torch.sigmoid(i) * torch.tanh(g)
            hiddens.append(torch.sigmoid(o) * torch.tanh(c))
            cells.append(c)
        return torch.stack(hiddens, dim=1), torch.stack(cells, dim=1)
