"""The decoder's arithmetic against loops, torch's own cell and single captions."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from captioner.errors import CaptionerError
from captioner.models.decoder import Decoder, DecoderConfig, cores, make_decoder
from captioner.models.decoder.ops import Dropout, drop_channels
from captioner.models.decoder.ragged import Layout
from captioner.text.vocabulary import PAD
from captioner.training.objectives.location import location_loss
from captioner.training.objectives.words import word_loss

WORDS, CHANNELS, CELLS = 11, 10, 6
CONFIG = DecoderConfig(embedding_size=8, hidden_size=7, attention_size=5, dropout=0.0)


def vary(**fields: Any) -> DecoderConfig:
    return replace(CONFIG, **fields)


CONFIGS = [
    *(
        vary(attention=attention, image_input=image, layers=layers, tied_embedding=tied)
        for attention, image, layers, tied in itertools.product(
            ("none", "soft"), ("initial_state", "first_word", "every_step"), (1, 2), (False, True)
        )
    ),
    *(
        vary(cell=cell, attention=attention, layers=layers)
        for cell, attention, layers in itertools.product(("rnn", "gru", "peephole"), ("none", "soft"), (1, 2))
    ),
    *(
        vary(attention=attention, image_input=image, heads=5)
        for attention, image in itertools.product(
            ("multiplicative", "multi_head", "hard", "spatial", "adaptive", "top_down"),
            ("none", "initial_state", "first_word", "every_step"),
        )
    ),
    vary(attention="top_down", cell="gru"),
    vary(attention="spatial", cell="gru", layers=2),
    vary(attention="adaptive", cell="peephole", layers=2),
    vary(attention="none", image_input="none"),
    *(
        vary(attention=attention, concepts=concepts, concept_size=4, concept_words=6, concept_classes=classes)
        for attention, concepts, classes in itertools.product(("none", "multiplicative"), ("attend", "copy"), (0, 9))
    ),
]
"""One of each kind, and the pairs that meet in the code."""

LEARNING_FROM_CONCEPTS = ("concepts.words.", "concepts.classes.")
"""What captions do not teach: the classifiers of concepts have a loss of their own."""

SEVERAL = [vary(members=2, attention="multiplicative", tied_embedding=True), vary(members=3, attention="none")]
"""Those of several members, which read known captions; `tests/models/test_decoder_ensemble.py` holds what they
write."""

CAPTIONS = torch.tensor(
    [
        [[1, 5, 6, 7, 8, 2], [1, 4, 2, 0, 0, 0], [0, 0, 0, 0, 0, 0]],
        [[1, 2, 0, 0, 0, 0], [1, 9, 10, 5, 2, 0], [1, 3, 3, 2, 0, 0]],
        [[1, 5, 2, 0, 0, 0], [1, 6, 2, 0, 0, 0], [1, 7, 2, 0, 0, 0]],
    ]
)
"""Three captions for each of three images, in no helpful order; one image has only two."""


def make(config: DecoderConfig) -> tuple[Any, Tensor]:
    torch.manual_seed(1)
    decoder = make_decoder(config, CHANNELS, WORDS).double().eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    for concepts in (member.concepts for member in decoder.members if member.concepts is not None):
        concepts.word_ids.copy_(torch.tensor([0, *range(5, 4 + len(concepts.word_ids))]))
        concepts.class_words.copy_(torch.arange(len(concepts.class_words)) % len(concepts.word_ids))
    return decoder, torch.randn(len(CAPTIONS), CELLS, CHANNELS, dtype=torch.double)


def describe(config: DecoderConfig) -> str:
    tied = "tied" if config.tied_embedding else "untied"
    shape = f"{config.cell}-{config.attention}-{config.image_input}-{config.layers}-{tied}-{config.members}"
    return shape if config.concepts == "none" else f"{shape}-{config.concepts}-{config.concept_classes}"


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
    if config.attention != "none":
        looped = torch.stack([a for a in attention if a is not None], dim=1) * real.unsqueeze(-1)
        torch.testing.assert_close(outcome.attention, looped)
    else:
        assert outcome.attention is None


@pytest.mark.parametrize("config", CONFIGS, ids=describe)
def test_gradients_are_those_of_a_loop_of_step(config: DecoderConfig) -> None:
    decoder, grid = make(config)
    learned = [grid.requires_grad_(), *decoder.parameters()]
    state, logits = decoder.start(grid).repeat(CAPTIONS.shape[1]), []
    for words in CAPTIONS[:, :, :-1].flatten(0, 1).unbind(dim=1):
        step = decoder.step(words, state, grid)
        state = step.state
        logits.append(step.logits)
    targets = CAPTIONS[:, :, 1:].flatten(0, 1)
    loop = cross_entropy(torch.stack(logits, dim=1).flatten(0, 1), targets.flatten(), ignore_index=PAD)
    expected = torch.autograd.grad(loop, learned, materialize_grads=True)

    gradients = torch.autograd.grad(word_loss(decoder(grid, CAPTIONS)), learned, materialize_grads=True)

    for gradient, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("config", [*CONFIGS, *SEVERAL], ids=describe)
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


@pytest.mark.parametrize("config", [*CONFIGS, *SEVERAL], ids=describe)
def test_every_part_learns_from_the_first_step(config: DecoderConfig) -> None:
    decoder, grid = make(config)
    outcome = decoder.train()(grid.requires_grad_(), CAPTIONS)
    loss = word_loss(outcome)
    if outcome.chosen is not None:
        loss = loss + location_loss(outcome, torch.zeros(()), 0.1)[0]
    loss.backward()  # type: ignore[no-untyped-call]
    learning = [(n, p) for n, p in decoder.named_parameters() if not n.startswith(LEARNING_FROM_CONCEPTS)]
    without = [name for name, p in learning if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without
    if config.image_input != "none" or config.attention != "none":
        assert grid.grad is not None
        assert grid.grad.abs().sum() > 0


def test_a_language_model_needs_no_picture() -> None:
    config = replace(CONFIG, attention="none", image_input="none")
    decoder = Decoder(config, 0, WORDS)
    assert decoder(torch.zeros(3, 0, 0), CAPTIONS).logits.isfinite().all()


@pytest.mark.parametrize("attention", ["none", "soft", "top_down"])
def test_a_sentence_read_in_pieces_is_the_sentence(attention: Any) -> None:
    decoder, grid = make(replace(CONFIG, attention=attention))
    embedded = torch.randn(len(grid), 5, CONFIG.embedding_size, dtype=torch.double)
    start = decoder.start(grid)
    whole, end = decoder.core.unroll(embedded, start, grid)

    first, between = decoder.core.unroll(embedded[:, :2], start, grid)
    second, last = decoder.core.unroll(embedded[:, 2:], between, grid)

    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    for one, other in zip(last.recurrent, end.recurrent, strict=True):
        torch.testing.assert_close(one, other)


def test_variational_dropout_has_one_mask_a_sentence() -> None:
    """Against the recurrence written out, with masks drawn by the same seed."""
    config = replace(CONFIG, attention="none", layers=2, dropout=0.5, variational_dropout=True)
    decoder, grid = make(config)
    decoder.train()
    caption = CAPTIONS[:1, :1]
    torch.manual_seed(8)
    outcome = decoder(grid[:1], caption)

    torch.manual_seed(8)
    masks = decoder.dropout(grid.new_ones(1, 2, 2, 7))[0]
    word_mask = decoder.dropout(grid.new_ones(8))
    h, c = (list(part[0]) for part in decoder.start(grid[:1]).recurrent)
    logits = []
    for word in caption[0, 0, :-1]:
        x = decoder.embedding(word) * word_mask
        for layer in range(2):
            weight_x, weight_h, bias_x, bias_h = decoder.core.cells.weights(layer)
            i, f, g, o = (weight_x @ x + weight_h @ (h[layer] * masks[0, layer]) + bias_x + bias_h).chunk(4)
            c[layer] = torch.sigmoid(f) * c[layer] + torch.sigmoid(i) * torch.tanh(g)
            h[layer] = torch.sigmoid(o) * torch.tanh(c[layer])
            x = h[layer] * masks[1, layer]
        assert decoder.output is not None
        logits.append(decoder.output.weight @ x + decoder.output_bias)
    assert 0 < int((masks == 0).sum()) < masks.numel()
    torch.testing.assert_close(outcome.logits, torch.stack(logits))


def test_words_read_can_differ_from_words_to_come() -> None:
    decoder, grid = make(CONFIG)
    read = CAPTIONS.clone()
    read[0, 0, 2] = 9
    outcome, usual = decoder(grid, CAPTIONS, read), decoder(grid, CAPTIONS)
    assert torch.equal(outcome.targets, usual.targets)
    differs = (outcome.logits != usual.logits).any(dim=1).nonzero().flatten().tolist()
    assert differs == [2, 3, 4]  # what is told after the second word of the first caption


def test_the_vector_of_padding_stays_where_it_is() -> None:
    decoder, grid = make(replace(CONFIG, attention="soft"))
    word_loss(decoder(grid, CAPTIONS)).backward()  # type: ignore[no-untyped-call]
    assert decoder.embedding.weight.grad is not None
    assert decoder.embedding.weight.grad[PAD].abs().sum() == 0


def test_loss_is_torchs_cross_entropy_over_real_words() -> None:
    decoder, grid = make(CONFIG)
    outcome = decoder(grid, CAPTIONS)
    assert len(outcome.targets) == int((CAPTIONS[:, :, 1:] != PAD).sum())
    torch.testing.assert_close(word_loss(outcome), cross_entropy(outcome.logits.float(), outcome.targets))


def test_selecting_sentences_keeps_the_keys_of_their_images() -> None:
    decoder, grid = make(CONFIG)
    state = decoder.start(grid).repeat(2)
    kept = state.keep(torch.tensor([2, 0])).select(torch.tensor([4, 5, 1, 0]), Layout(2))
    words = torch.tensor([5, 6, 7, 8])
    step = decoder.step(words, kept, grid[[2, 0]])
    for row, (word, image) in enumerate(zip(words, (2, 2, 0, 0), strict=True)):
        alone = decoder.step(word[None], decoder.start(grid[image : image + 1]), grid[image : image + 1])
        torch.testing.assert_close(step.logits[row], alone.logits[0])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("attention", "har", "decoder.attention 'har' is unknown; choose none or soft or multiplicative or"),
        ("cell", "LSTM", "decoder.cell 'LSTM' is unknown; choose rnn or gru or lstm or peephole"),
        (
            "image_input",
            1,
            "decoder.image_input 1 is unknown; choose none or first_word or",
        ),
        ("layers", 0, "decoder.layers is 0; it must be at least 1"),
        ("dropout", 1.0, "decoder.dropout is 1.0; it must be at least 0 and less than 1"),
    ],
)
def test_a_senseless_shape_is_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(CaptionerError, match=message.replace(".", r"\.")):
        DecoderConfig(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention": "adaptive", "cell": "gru"}, "needs a cell with a memory c, not decoder.cell gru"),
        ({"attention": "top_down", "layers": 2}, "decoder.layers 2 must be 1"),
        (
            {"attention": "multi_head", "attention_size": 6, "heads": 4},
            "attention_size 6 is not a multiple of .*heads 4",
        ),
    ],
)
def test_choices_that_exclude_each_other_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(CaptionerError, match=message):
        DecoderConfig(**fields)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(share: float) -> None:
    torch.manual_seed(1)
    dropout = Dropout(share)
    values = torch.full((1000, 101), 2.0, requires_grad=True)
    dropped = dropout(values)
    kept = dropped != 0
    assert float((~kept).float().mean()) == pytest.approx(share, abs=0.01)
    torch.testing.assert_close(dropped[kept], torch.full_like(dropped[kept], 2 / (1 - share)), rtol=2e-4, atol=0)
    # Neighbours, which share a drawn number, are independent.
    both = (~kept[:, :100:2] & ~kept[:, 1::2]).float().mean()
    assert float(both) == pytest.approx(share**2, abs=0.01)
    (gradient,) = torch.autograd.grad(dropped.sum(), values)
    torch.testing.assert_close(gradient, dropped.detach() / 2)
    assert dropout.eval()(values) is values


def test_a_dropped_channel_is_dropped_in_all_cells_of_its_image() -> None:
    torch.manual_seed(1)
    grid = torch.rand(50, 4, 100) + 1
    dropped = drop_channels(grid, 0.3)
    kept = dropped[:, 0] != 0
    assert float((~kept).float().mean()) == pytest.approx(0.3, abs=0.02)
    torch.testing.assert_close(dropped, grid / 0.7 * kept.unsqueeze(1))
    assert drop_channels(grid, 0.0) is grid


@pytest.mark.parametrize("attention", ["soft", "multiplicative", "hard", "top_down"])
def test_a_context_may_be_multiplied_before_it_is_mixed(attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """W_z Σ p_i v_i = Σ p_i W_z v_i, forward and backward, for grids of few cells and of many."""
    torch.manual_seed(1)
    decoder = Decoder(vary(attention=attention), CHANNELS, WORDS).eval()
    grid = torch.rand(2, CELLS, CHANNELS, requires_grad=True)
    captions = torch.tensor([[[1, 5, 6, 7, 2], [1, 8, 2, 0, 0]], [[1, 9, 4, 2, 0], [1, 2, 0, 0, 0]]])
    outcomes = []
    for few in (CELLS, CELLS - 1):
        monkeypatch.setattr(cores, "FEW_REGIONS", few)
        assert (decoder.start(grid).cache.values is None) == (few < CELLS)
        loss = word_loss(decoder(grid, captions))
        outcomes.append([loss, *torch.autograd.grad(loss, [grid, *decoder.parameters()], allow_unused=True)])
    for early, late in zip(*outcomes, strict=True):
        torch.testing.assert_close(early, late)


@pytest.mark.parametrize(
    "config", [each for each in CONFIGS if each.attention != "hard" and each.concepts == "none"], ids=describe
)
def test_variational_dropout_has_masks_of_its_own_for_each_sentence(config: DecoderConfig) -> None:
    """Against a loop of steps, whose sentences stay in their order, with masks drawn by the same seed."""
    decoder, grid = make(replace(config, dropout=0.5, variational_dropout=True))
    decoder.train()
    torch.manual_seed(5)
    outcome = decoder(grid, CAPTIONS)

    torch.manual_seed(5)
    state = decoder.start(grid).repeat(CAPTIONS.shape[1])
    sentences, layers, hidden = state.hidden.shape
    masks = decoder.dropout(state.hidden.new_ones(sentences, 2, layers, hidden))
    word_masks = decoder.dropout(grid.new_ones(sentences, config.embedding_size))
    state = state._replace(masks=masks)
    words, logits = CAPTIONS.flatten(0, 1), []
    for position in range(words.shape[1] - 1):
        x = decoder._embed(words[:, position]) * word_masks
        read = decoder.core.compute_output(decoder.core.advance(decoder.core.project(x), state, grid))
        state = read.state
        logits.append(decoder._logits(read.output * masks[:, 1, -1]))
    torch.testing.assert_close(outcome.logits, torch.stack(logits, dim=1)[words[:, 1:] != PAD])


@pytest.mark.parametrize("attention", ["none", "soft", "spatial", "top_down"])
def test_the_output_is_dropped_before_the_words(attention: str) -> None:
    decoder, grid = make(vary(attention=attention, dropout=0.999))
    decoder.train()
    alone = (decoder(grid, CAPTIONS).logits == decoder.output_bias).all(dim=1)
    assert alone.double().mean() > 0.9
