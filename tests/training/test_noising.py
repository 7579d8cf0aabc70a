"""Word dropout and scheduled sampling."""

from __future__ import annotations

import torch

from captioner.models.decoder import Decoder, DecoderConfig
from captioner.text.vocabulary import END, PAD, START, UNKNOWN
from captioner.training.noising import drop_tokens, sample_tokens

CAPTIONS = torch.tensor([[[START, 5, 6, 7, END], [START, 8, END, PAD, PAD]]])
WORDS = CAPTIONS > UNKNOWN


def make() -> tuple[Decoder, torch.Tensor]:
    torch.manual_seed(1)
    decoder = Decoder(DecoderConfig(embedding_size=8, hidden_size=7, attention_size=5), 10, 11).train()
    return decoder, torch.randn(1, 6, 10)


def test_all_words_dropped_leave_the_special_ones() -> None:
    assert torch.equal(drop_tokens(CAPTIONS, 1.0), CAPTIONS.masked_fill(WORDS, UNKNOWN))


def test_words_are_dropped_as_often_as_asked() -> None:
    torch.manual_seed(1)
    captions = torch.full((100, 5, 20), 7)
    assert abs(float((drop_tokens(captions, 0.3) == UNKNOWN).float().mean()) - 0.3) < 0.02


def test_a_share_of_nothing_reads_the_captions() -> None:
    decoder, grid = make()
    assert torch.equal(sample_tokens(decoder, grid, CAPTIONS, 0.0), CAPTIONS)


def test_sampled_words_stand_where_words_stood() -> None:
    decoder, grid = make()
    read = sample_tokens(decoder, grid, CAPTIONS.repeat(1, 50, 1), 1.0)
    words = WORDS.repeat(1, 50, 1)
    assert torch.equal(read[~words], CAPTIONS.repeat(1, 50, 1)[~words])
    assert not set(read[words].tolist()) & {PAD, START, END}
    assert decoder.training


def test_words_are_sampled_from_what_was_read_before() -> None:
    """With scores so far apart that a draw is certain, it is the greedy caption."""
    decoder, grid = make()
    with torch.no_grad():
        decoder.output_bias[[PAD, START, END]] = -1e9
        for parameter in decoder.parameters():
            parameter.mul_(300 if parameter.ndim > 1 else 1)
    read = sample_tokens(decoder, grid, CAPTIONS[:, :1], 1.0)[0, 0]
    decoder.eval()
    state = decoder.start(grid)
    for position in range(3):
        logits, state, _ = decoder.step(read[position : position + 1], state, grid)
        assert read[position + 1] == logits[0].argmax()
