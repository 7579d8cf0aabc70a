"""Recurrent cells against torch's own and against their equations, number by number."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from captioner.models.decoder.rnn import CELLS, PeepholeLSTM, StackedCells, StackedLSTM

INPUT, HIDDEN, SENTENCES = 4, 3, 5
TORCH_CELLS = {"rnn": torch.nn.RNNCell, "gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell}


def make(name: str, layers: int = 1, dropout: float = 0.0) -> StackedCells:
    torch.manual_seed(2)
    cells = CELLS[name](INPUT, HIDDEN, layers, dropout).double()
    for parameter in cells.parameters():
        torch.nn.init.normal_(parameter)
    return cells


def memory_of(cells: StackedCells) -> tuple[Tensor, ...]:
    return tuple(torch.randn(SENTENCES, cells.num_layers, HIDDEN, dtype=torch.double) for _ in range(cells.parts))


@pytest.mark.parametrize("name", TORCH_CELLS)
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_layers_equal_torchs_cells(name: str, layers: int) -> None:
    cells = make(name, layers)
    memory, x = memory_of(cells), torch.randn(SENTENCES, INPUT, dtype=torch.double)

    result = cells.step(cells.project(x), memory)

    for layer in range(layers):
        official = TORCH_CELLS[name](x.shape[1], HIDDEN).double()
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        official.load_state_dict(dict(zip(names, cells.weights(layer), strict=True)))
        old = tuple(part[:, layer] for part in memory)
        expected = official(x, old if cells.parts > 1 else old[0])
        expected = expected if cells.parts > 1 else (expected,)
        for part, wanted in zip(result, expected, strict=True):
            torch.testing.assert_close(part[:, layer], wanted)
        x = expected[0]


def test_peepholes_equal_their_equations_number_by_number() -> None:
    cells = make("peephole")
    assert isinstance(cells, PeepholeLSTM)
    (h, c), x = memory_of(cells), torch.randn(SENTENCES, INPUT, dtype=torch.double)
    new_h, new_c = (part.detach() for part in cells.step(cells.project(x), (h, c)))
    weight_x, weight_h, bias_x, bias_h = (each.tolist() for each in cells.weights(0))
    peepholes = cells.peepholes[0].tolist()

    def sigmoid(a: float) -> float:
        return 1 / (1 + math.exp(-a))

    for sentence in range(SENTENCES):
        for unit in range(HIDDEN):

            def affine(gate: int, unit: int = unit, sentence: int = sentence) -> float:
                row = gate * HIDDEN + unit
                total: float = bias_x[row] + bias_h[row]
                total += sum(weight_x[row][k] * float(x[sentence, k]) for k in range(INPUT))
                total += sum(weight_h[row][k] * float(h[sentence, 0, k]) for k in range(HIDDEN))
                return total

            old = float(c[sentence, 0, unit])
            i = sigmoid(affine(0) + peepholes[0][unit] * old)
            f = sigmoid(affine(1) + peepholes[1][unit] * old)
            memory = f * old + i * math.tanh(affine(2))
            o = sigmoid(affine(3) + peepholes[2][unit] * memory)
            assert float(new_c[sentence, 0, unit]) == pytest.approx(memory, rel=1e-12)
            assert float(new_h[sentence, 0, unit]) == pytest.approx(o * math.tanh(memory), rel=1e-12)


@pytest.mark.parametrize("name", CELLS)
def test_gradients_equal_finite_differences(name: str) -> None:
    cells = make(name, layers=2)
    memory, x = memory_of(cells), torch.randn(SENTENCES, INPUT, dtype=torch.double)
    parameters = dict(cells.named_parameters())

    def two_steps(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        def run(x: Tensor) -> tuple[Tensor, ...]:
            once = cells.step(cells.project(x), values[: cells.parts])
            return cells.step(cells.project(x), once)

        # The weights stand among the inputs, so that their gradients are compared too.
        for (owner, _), value in zip(parameters.items(), values[cells.parts :], strict=True):
            delattr(cells, owner)
            setattr(cells, owner, value)
        return run(x)

    inputs = [x, *memory, *(p.detach().clone() for p in parameters.values())]
    assert torch.autograd.gradcheck(two_steps, [each.requires_grad_() for each in inputs])


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_whole_sentences_equal_steps(name: str) -> None:
    cells = make(name, layers=2)
    memory, x = memory_of(cells), torch.randn(SENTENCES, 6, INPUT, dtype=torch.double)
    outputs, end = cells.unroll(x, memory)
    for position in range(6):
        memory = cells.step(cells.project(x[:, position]), memory)
        torch.testing.assert_close(outputs[:, position], memory[0][:, -1])
    for part, wanted in zip(end, memory, strict=True):
        torch.testing.assert_close(part, wanted)


@pytest.mark.parametrize("name", CELLS)
def test_recurrent_matrices_start_orthogonal_and_forget_gates_open(name: str) -> None:
    cells = CELLS[name](INPUT, HIDDEN, layers=2)
    for layer in range(2):
        _, recurrent, bias, second_bias = cells.weights(layer)
        opened = [0.0] * HIDDEN + [1.0] * HIDDEN + [0.0] * 2 * HIDDEN
        assert bias.tolist() == (opened if isinstance(cells, StackedLSTM) else [0.0] * cells.gates * HIDDEN)
        assert second_bias.abs().sum() == 0
        for gate in recurrent.chunk(cells.gates):
            torch.testing.assert_close(gate @ gate.T, torch.eye(HIDDEN))


def test_dropout_between_layers_leaves_the_carried_state_whole() -> None:
    torch.manual_seed(3)
    cells = CELLS["lstm"](INPUT, 64, layers=2, dropout=0.9).train()
    projected, zero = torch.randn(1, 256), torch.zeros(1, 2, 64)
    first, second = cells.step(projected, (zero, zero)), cells.step(projected, (zero, zero))
    assert torch.equal(first[0][:, 0], second[0][:, 0])
    assert not torch.equal(first[0][:, 1], second[0][:, 1])
