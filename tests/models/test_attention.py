"""Each kind of attention against its equation, cell by cell."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from captioner.models.decoder import Decoder, DecoderConfig
from captioner.models.decoder.attention import (
    AdditiveAttention,
    HardAttention,
    MultiHeadAttention,
    MultiplicativeAttention,
)
from captioner.models.decoder.cores import AdaptiveCore, SpatialCore, TopDownCore
from captioner.models.decoder.ragged import Layout

CHANNELS, CELLS = 10, 6
CONFIG = DecoderConfig(embedding_size=8, hidden_size=7, attention_size=5, dropout=0.0)


def sigmoid(a: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-a))


def test_soft_attention_equals_its_equation_cell_by_cell() -> None:
    torch.manual_seed(4)
    attention = AdditiveAttention(CHANNELS, 7, 5)
    grid, hidden = torch.randn(2, CELLS, CHANNELS), torch.randn(4, 7)
    context, weights, _ = attention(hidden, attention.keys(grid), grid, Layout(len(grid)))
    for sentence in range(4):
        cells = grid[sentence // 2]
        scores = torch.stack(
            [
                attention.energy.weight[0]
                @ torch.tanh(attention.key.weight @ v + attention.key.bias + attention.query.weight @ hidden[sentence])
                for v in cells
            ]
        )
        p = scores.exp() / scores.exp().sum()
        gate = 1 / (1 + torch.exp(-(attention.gate.weight[0] @ hidden[sentence] + attention.gate.bias[0])))
        torch.testing.assert_close(weights[sentence], p)
        torch.testing.assert_close(context[sentence], gate * sum(p_i * v for p_i, v in zip(p, cells, strict=True)))


def comparing_as_given() -> AdditiveAttention:
    """Attention whose keys and queries are the cells and the states themselves."""
    attention = AdditiveAttention(3, 3, 3)
    with torch.no_grad():
        attention.key.weight.copy_(torch.eye(3))
        attention.key.bias.zero_()
        attention.query.weight.copy_(torch.eye(3))
    return attention


def test_soft_attention_keeps_to_its_equation_however_great_its_numbers() -> None:
    attention = comparing_as_given().double()
    sizes = torch.tensor([0.0, 1e-6, 0.3, 5.0, 19.0, 39.0], dtype=torch.double)
    values = torch.cat([-sizes, sizes])
    grid = values.view(1, -1, 1).expand(1, -1, 3)
    assert (
        attention(values[:3].expand(1, 3) * 1e9, attention.keys(grid * 1e9), grid, Layout(len(grid)))[1]
        .isfinite()
        .all()
    )
    for hidden in values:
        state, seen = hidden.expand(1, 3).clone().requires_grad_(), grid.clone().requires_grad_()
        _, weights, _ = attention(state, attention.keys(seen), grid, Layout(len(grid)))
        expected = attention.energy(torch.tanh(seen + state)).squeeze().softmax(0)
        torch.testing.assert_close(weights[0], expected)
        of = (attention.energy.weight, state, seen)
        slopes = torch.autograd.grad(expected.square().sum(), of)
        torch.testing.assert_close(torch.autograd.grad(weights.square().sum(), of), slopes)


def test_soft_attention_is_cut_where_float32_still_holds_the_products() -> None:
    attention = comparing_as_given()
    sizes = torch.tensor([-1e6, -60.0, -43.0, -1.0, 1.0, 43.0, 60.0, 1e6])
    grid = sizes.view(1, -1, 1).expand(1, -1, 3).clone()
    for hidden in sizes:
        state = hidden.expand(1, 3).clone().requires_grad_()
        _, weights, _ = attention(state, attention.keys(grid), grid, Layout(len(grid)))
        # Where both are cut, they cancel as a cell of -60 and a state of 60 do.
        cut = torch.tanh(grid.clamp(-40, 40) + state.clamp(-40, 40))
        torch.testing.assert_close(weights[0], attention.energy(cut).squeeze().softmax(0))
        weights.square().sum().backward()
        assert state.grad is not None
        assert state.grad.isfinite().all()


def test_images_are_looked_at_in_parts_when_nothing_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(4)
    attention = AdditiveAttention(CHANNELS, 7, 5)
    grid, hidden = torch.randn(5, CELLS, CHANNELS), torch.randn(10, 7)
    whole = attention(hidden, attention.keys(grid), grid, Layout(len(grid)))
    monkeypatch.setattr("captioner.models.decoder.attention.SCRATCH_VALUES", 2 * 2 * CELLS * 5)
    with torch.no_grad():
        parts = attention(hidden, attention.keys(grid), grid, Layout(len(grid)))
    for one, other in zip(whole[:2], parts[:2], strict=True):
        torch.testing.assert_close(one, other)


def test_multiplicative_attention_equals_its_equation_cell_by_cell() -> None:
    torch.manual_seed(4)
    attention = MultiplicativeAttention(CHANNELS, 7, 5)
    grid, hidden = torch.randn(2, CELLS, CHANNELS), torch.randn(4, 7)
    context, weights, _ = attention(hidden, attention.keys(grid), grid, Layout(len(grid)))
    for sentence in range(4):
        cells, query = grid[sentence // 2], attention.query.weight @ hidden[sentence]
        scores = torch.stack([query @ (attention.key.weight @ v + attention.key.bias) / math.sqrt(5) for v in cells])
        p = scores.exp() / scores.exp().sum()
        gate = sigmoid(attention.gate.weight[0] @ hidden[sentence] + attention.gate.bias[0])
        torch.testing.assert_close(weights[sentence], p)
        torch.testing.assert_close(context[sentence], gate * sum(p_i * v for p_i, v in zip(p, cells, strict=True)))


def test_each_head_equals_its_equation_cell_by_cell() -> None:
    torch.manual_seed(4)
    attention = MultiHeadAttention(CHANNELS, 7, 6, heads=3)
    grid, hidden = torch.randn(2, CELLS, CHANNELS), torch.randn(4, 7)
    context, weights, _ = attention(hidden, attention.keys(grid), grid, Layout(len(grid)))
    for sentence in range(4):
        cells, parts, maps = grid[sentence // 2], [], []
        for head in range(3):
            rows = slice(2 * head, 2 * head + 2)
            query = attention.query.weight[rows] @ hidden[sentence]
            keys = [attention.key.weight[rows] @ v + attention.key.bias[rows] for v in cells]
            p = torch.stack([query @ key / math.sqrt(2) for key in keys]).softmax(0)
            parts.append(sum(p_i * (attention.value[head] @ v) for p_i, v in zip(p, cells, strict=True)))
            maps.append(p)
        gate = sigmoid(attention.gate.weight[0] @ hidden[sentence] + attention.gate.bias[0])
        torch.testing.assert_close(context[sentence], gate * torch.cat(parts))
        torch.testing.assert_close(weights[sentence], torch.stack(maps).mean(0))


def test_hard_attention_draws_a_cell_as_often_as_its_weight_says() -> None:
    torch.manual_seed(4)
    attention = HardAttention(CHANNELS, 7, 5).train()
    grid, hidden = torch.randn(1, CELLS, CHANNELS), torch.randn(7).expand(20_000, 7)
    context, weights, chosen = attention(hidden, attention.keys(grid), grid, Layout(len(grid)))
    assert chosen is not None
    gate = sigmoid(attention.gate.weight[0] @ hidden[0] + attention.gate.bias[0])
    drawn = (context.unsqueeze(1) / gate - grid).abs().sum(2).argmin(1)
    torch.testing.assert_close(context, gate * grid[0, drawn])
    torch.testing.assert_close(chosen, weights[0, drawn].log())
    shares = torch.bincount(drawn, minlength=CELLS) / len(drawn)
    torch.testing.assert_close(shares, weights[0].detach(), atol=0.015, rtol=0)


def test_hard_attention_looks_at_the_likeliest_cell_when_it_writes() -> None:
    torch.manual_seed(4)
    attention = HardAttention(CHANNELS, 7, 5).eval()
    grid, hidden = torch.randn(2, CELLS, CHANNELS), torch.randn(4, 7)
    context, weights, _ = attention(hidden, attention.keys(grid), grid, Layout(len(grid)))
    for sentence in range(4):
        gate = sigmoid(attention.gate.weight[0] @ hidden[sentence] + attention.gate.bias[0])
        torch.testing.assert_close(context[sentence], gate * grid[sentence // 2, weights[sentence].argmax()])


def test_spatial_attention_equals_its_equations() -> None:
    torch.manual_seed(4)
    core = SpatialCore(replace(CONFIG, attention="spatial"), CHANNELS).eval()
    grid, x = torch.randn(1, CELLS, CHANNELS), torch.randn(1, 8)
    state = core.start(grid)
    lstm = torch.nn.LSTMCell(8, 7)
    load(lstm, *core.cells.weights(0))
    h, _ = lstm(x[0], tuple(part[0, 0] for part in state.recurrent))

    _, output, weights, _ = core.compute_output(core.advance(core.project(x), state, grid))

    attention = core.attention
    assert attention is not None
    query = attention.query.weight @ h
    scores = [query @ (attention.key.weight @ v + attention.key.bias) / math.sqrt(5) for v in grid[0]]
    p = torch.stack(scores).softmax(0)
    values = [torch.relu(core.value.weight @ v + core.value.bias) for v in grid[0]]
    context = sum(p_i * v for p_i, v in zip(p, values, strict=True))
    assert weights is not None
    torch.testing.assert_close(weights[0], p)
    torch.testing.assert_close(output[0], core.mix.weight @ (context + h) + core.mix.bias)


def test_adaptive_attention_equals_its_equations() -> None:
    torch.manual_seed(4)
    core = AdaptiveCore(replace(CONFIG, attention="adaptive"), CHANNELS).eval()
    grid, x = torch.randn(1, CELLS, CHANNELS), torch.randn(1, 8)
    state = core.start(grid)
    before = state.hidden[0, 0]

    after, output, weights, _ = core.compute_output(core.advance(core.project(x), state, grid))

    h, c = (part[0, 0] for part in after.recurrent)
    attention = core.attention
    assert isinstance(attention, AdditiveAttention)
    gate = sigmoid(core.sentinel_word.weight @ x[0] + core.sentinel_word.bias + core.sentinel_state.weight @ before)
    sentinel = gate * torch.tanh(c)
    keys = [attention.key.weight @ v + attention.key.bias for v in grid[0]]
    keys.append(core.sentinel_key.weight @ sentinel + core.sentinel_key.bias)
    query = attention.query.weight @ h
    p = torch.stack([attention.energy.weight[0] @ torch.tanh(key + query) for key in keys]).softmax(0)
    values = [torch.relu(core.value.weight @ v + core.value.bias) for v in grid[0]] + [sentinel]
    context = sum(p_i * v for p_i, v in zip(p, values, strict=True))
    assert weights is not None
    torch.testing.assert_close(weights[0], p)
    torch.testing.assert_close(output[0], core.mix.weight @ (context + h) + core.mix.bias)


def test_top_down_attention_equals_its_equations() -> None:
    torch.manual_seed(4)
    core = TopDownCore(replace(CONFIG, attention="top_down", image_input="every_step"), CHANNELS).eval()
    grid, x = torch.randn(1, CELLS, CHANNELS), torch.randn(1, 8)
    state = core.start(grid)
    state = state._replace(recurrent=tuple(torch.randn_like(part) for part in state.recurrent))
    (h_lower, h_upper), (c_lower, c_upper) = (part[0] for part in state.recurrent)

    after, output, weights, _ = core.advance(core.project(x), state, grid)

    columns = [core.cells.weights(0)[0], core.feedback.weight, core.image_update.weight]
    lower = torch.nn.LSTMCell(8 + 7 + CHANNELS, 7)
    _, recurrent, *biases = core.cells.weights(0)
    load(lower, torch.cat(columns, dim=1), recurrent, *biases)
    h, c = lower(torch.cat([x[0], h_upper, grid[0].mean(0)]), (h_lower, c_lower))
    assert core.attention is not None
    seen, looked, _ = core.attention(h[None], core.attention.keys(grid), grid, Layout(len(grid)))
    upper = torch.nn.LSTMCell(7 + CHANNELS, 7)
    weight, recurrent, *biases = core.cells.weights(1)
    load(upper, torch.cat([weight, core.context.weight], dim=1), recurrent, *biases)
    expected, carried = upper(torch.cat([h, seen[0]]), (h_upper, c_upper))
    assert weights is not None
    torch.testing.assert_close(weights, looked)
    torch.testing.assert_close(output[0], expected)
    torch.testing.assert_close(after.recurrent[0][0], torch.stack([h, expected]))
    torch.testing.assert_close(after.recurrent[1][0], torch.stack([c, carried]))


def load(cell: torch.nn.LSTMCell, *weights: Tensor) -> None:
    cell.load_state_dict(dict(zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), weights, strict=True)))


@pytest.mark.parametrize("kind", ["soft", "multiplicative", "multi_head", "hard", "spatial", "adaptive", "top_down"])
def test_the_weights_of_a_word_sum_to_one(kind: str) -> None:
    torch.manual_seed(4)
    config = replace(CONFIG, attention=kind, attention_size=8)  # type: ignore[arg-type]
    decoder, grid = Decoder(config, CHANNELS, 11).eval(), torch.randn(2, CELLS, CHANNELS)
    attention = decoder.step(torch.tensor([5, 6]), decoder.start(grid), grid).attention
    assert attention is not None
    assert attention.shape == (2, CELLS + (kind == "adaptive"))
    torch.testing.assert_close(attention.sum(1), torch.ones(2))
