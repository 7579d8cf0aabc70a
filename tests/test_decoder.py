"""The decoder's arithmetic against loops, torch's own cell and single captions."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from captioner.attention import SoftAttention
from captioner.decoder import Decoder, DecoderConfig
from captioner.errors import CaptionerError
from captioner.recurrent import StackedLSTM
from captioner.training import attention_penalty, word_loss
from captioner.vocabulary import PAD

WORDS, CHANNELS, CELLS = 11, 10, 6
CONFIG = DecoderConfig(embedding_size=8, hidden_size=7, attention_size=5, dropout=0.0)
CONFIGS = [
    replace(CONFIG, attention=attention, image_input=image, layers=layers, tied_embedding=tied)  # type: ignore[arg-type]
    for attention, image, layers, tied in itertools.product(
        ("none", "soft"), ("initial_state", "first_word"), (1, 2), (False, True)
    )
]
CAPTIONS = torch.tensor(
    [
        [[1, 5, 6, 7, 8, 2], [1, 4, 2, 0, 0, 0], [0, 0, 0, 0, 0, 0]],
        [[1, 2, 0, 0, 0, 0], [1, 9, 10, 5, 2, 0], [1, 3, 3, 2, 0, 0]],
        [[1, 5, 2, 0, 0, 0], [1, 6, 2, 0, 0, 0], [1, 7, 2, 0, 0, 0]],
    ]
)
"""Three captions for each of three images, in no helpful order; one image has only two."""


def make(config: DecoderConfig) -> tuple[Decoder, Tensor]:
    torch.manual_seed(1)
    decoder = Decoder(config, CHANNELS, WORDS).double()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return decoder, torch.randn(len(CAPTIONS), CELLS, CHANNELS, dtype=torch.double)


def describe(config: DecoderConfig) -> str:
    return f"{config.attention}-{config.image_input}-{config.layers}-{'tied' if config.tied_embedding else 'untied'}"


@pytest.mark.parametrize("config", CONFIGS, ids=describe)
def test_forward_equals_a_loop_of_step(config: DecoderConfig) -> None:
    decoder, grid = make(config)
    state = decoder.start(grid).repeat(CAPTIONS.shape[1])
    logits, attention = [], []
    for position in range(CAPTIONS.shape[2] - 1):
        step = decoder.step(CAPTIONS[:, :, position].flatten(), state, grid)
        state = step.state
        logits.append(step.logits)
        attention.append(step.attention)
    real = CAPTIONS[:, :, 1:].flatten(0, 1) != PAD

    outcome = decoder(grid, CAPTIONS)

    torch.testing.assert_close(outcome.logits, torch.stack(logits, dim=1)[real])
    assert outcome.targets.tolist() == CAPTIONS[:, :, 1:].flatten(0, 1)[real].tolist()
    if config.attention == "soft":
        looped = torch.stack([a for a in attention if a is not None], dim=1) * real.unsqueeze(-1)
        torch.testing.assert_close(outcome.attention, looped)
    else:
        assert outcome.attention is None


@pytest.mark.parametrize("config", CONFIGS, ids=describe)
def test_padding_changes_nothing(config: DecoderConfig) -> None:
    decoder, grid = make(config)
    loss = word_loss(decoder(grid, CAPTIONS), label_smoothing=0.1)
    total, words = torch.zeros((), dtype=torch.double), 0
    for image, captions in zip(grid, CAPTIONS, strict=True):
        for caption in captions:
            length = int((caption != PAD).sum())
            if length:
                alone = decoder(image[None], caption[None, None, :length])
                total += word_loss(alone, label_smoothing=0.1) * len(alone.targets)
                words += len(alone.targets)
    torch.testing.assert_close(loss, total.float() / words)


@pytest.mark.parametrize("config", CONFIGS, ids=describe)
def test_every_part_learns_from_the_first_step(config: DecoderConfig) -> None:
    decoder, grid = make(config)
    word_loss(decoder(grid.requires_grad_(), CAPTIONS)).backward()  # type: ignore[no-untyped-call]
    without = [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without
    assert grid.grad is not None
    assert grid.grad.abs().sum() > 0


def test_the_vector_of_padding_stays_where_it_is() -> None:
    decoder, grid = make(replace(CONFIG, attention="soft"))
    word_loss(decoder(grid, CAPTIONS)).backward()  # type: ignore[no-untyped-call]
    assert decoder.embedding.weight.grad is not None
    assert decoder.embedding.weight.grad[PAD].abs().sum() == 0


def test_one_layer_equals_torchs_lstm_cell() -> None:
    torch.manual_seed(2)
    lstm, cell = StackedLSTM(4, 3), torch.nn.LSTMCell(4, 3)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in lstm.state_dict().items()})
    x, h, c = torch.randn(5, 4), torch.randn(5, 3), torch.randn(5, 3)
    weight, _, bias_x, bias_h = lstm.weights(0)

    hidden, carried = lstm.step(x @ weight.T + bias_x + bias_h, h[:, None], c[:, None])

    expected_h, expected_c = cell(x, (h, c))
    torch.testing.assert_close(hidden[:, 0], expected_h)
    torch.testing.assert_close(carried[:, 0], expected_c)


def test_forget_gates_start_open_and_recurrent_matrices_orthogonal() -> None:
    lstm = StackedLSTM(4, 3, layers=2)
    for layer in range(2):
        _, recurrent, bias, second_bias = lstm.weights(layer)
        assert bias.tolist() == [0.0] * 3 + [1.0] * 3 + [0.0] * 6
        assert second_bias.abs().sum() == 0
        for gate in recurrent.chunk(4):
            torch.testing.assert_close(gate @ gate.T, torch.eye(3))


def test_dropout_between_layers_leaves_the_carried_state_whole() -> None:
    torch.manual_seed(3)
    lstm = StackedLSTM(4, 64, layers=2, dropout=0.9).train()
    projected, zero = torch.randn(1, 256), torch.zeros(1, 2, 64)
    first, second = lstm.step(projected, zero, zero), lstm.step(projected, zero, zero)
    assert torch.equal(first[0][:, 0], second[0][:, 0])
    assert not torch.equal(first[0][:, 1], second[0][:, 1])


def test_soft_attention_equals_its_equation_cell_by_cell() -> None:
    torch.manual_seed(4)
    attention = SoftAttention(CHANNELS, 7, 5)
    grid, hidden = torch.randn(2, CELLS, CHANNELS), torch.randn(4, 7)
    context, weights = attention(hidden, attention.keys(grid), grid)
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


def test_soft_attention_keeps_to_its_equation_however_great_its_numbers() -> None:
    attention = SoftAttention(3, 3, 3).double()
    with torch.no_grad():
        attention.key.weight.copy_(torch.eye(3))
        attention.key.bias.zero_()
        attention.query.weight.copy_(torch.eye(3))
    sizes = torch.tensor([0.0, 1e-6, 0.3, 5.0, 19.0, 39.0], dtype=torch.double)
    values = torch.cat([-sizes, sizes])
    grid = values.view(1, -1, 1).expand(1, -1, 3)
    assert attention(values[:3].expand(1, 3) * 1e9, attention.keys(grid * 1e9), grid)[1].isfinite().all()
    for hidden in values:
        state = hidden.expand(1, 3).clone().requires_grad_()
        _, weights = attention(state, attention.keys(grid), grid)
        scores = attention.energy(torch.tanh(grid + hidden)).squeeze()
        torch.testing.assert_close(weights[0], scores.softmax(0))
        weights.square().sum().backward()
        assert state.grad is not None
        assert state.grad.isfinite().all()


def test_images_are_looked_at_in_parts_when_nothing_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(4)
    attention = SoftAttention(CHANNELS, 7, 5)
    grid, hidden = torch.randn(5, CELLS, CHANNELS), torch.randn(10, 7)
    whole = attention(hidden, attention.keys(grid), grid)
    monkeypatch.setattr("captioner.attention.SCRATCH_VALUES", 2 * 2 * CELLS * 5)
    with torch.no_grad():
        parts = attention(hidden, attention.keys(grid), grid)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other)


def test_attention_penalty_equals_its_equation() -> None:
    attention = torch.tensor([[[0.5, 0.5], [1.0, 0.0]], [[0.2, 0.8], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    # Sums over time are (1.5, 0.5) and (0.2, 0.8); the third sentence has no words.
    expected = (0.5**2 + 0.5**2 + 0.8**2 + 0.2**2) / 4
    assert attention_penalty(attention).item() == pytest.approx(expected)


def test_loss_is_torchs_cross_entropy_over_real_words() -> None:
    decoder, grid = make(CONFIG)
    outcome = decoder(grid, CAPTIONS)
    assert len(outcome.targets) == int((CAPTIONS[:, :, 1:] != PAD).sum())
    torch.testing.assert_close(word_loss(outcome), cross_entropy(outcome.logits.float(), outcome.targets))


def test_selecting_sentences_keeps_the_keys_of_their_images() -> None:
    decoder, grid = make(CONFIG)
    state = decoder.start(grid).repeat(2)
    kept = state.select(torch.tensor([4, 5, 1, 0]), torch.tensor([2, 0]))
    words = torch.tensor([5, 6, 7, 8])
    step = decoder.step(words, kept, grid[[2, 0]])
    for row, (word, image) in enumerate(zip(words, (2, 2, 0, 0), strict=True)):
        alone = decoder.step(word[None], decoder.start(grid[image : image + 1]), grid[image : image + 1])
        torch.testing.assert_close(step.logits[row], alone.logits[0])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("attention", "hard", "decoder.attention 'hard' is unknown; choose none or soft"),
        ("layers", 0, "decoder.layers is 0; it must be at least 1"),
        ("dropout", 1.0, "decoder.dropout is 1.0; it must be at least 0 and less than 1"),
    ],
)
def test_a_senseless_shape_is_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(CaptionerError, match=message.replace(".", r"\.")):
        DecoderConfig(**{field: value})  # type: ignore[arg-type]
