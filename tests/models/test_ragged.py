"""Sentences and the blocks in which they stand beside their images."""

from __future__ import annotations

import pytest
import torch

from captioner.models.decoder.ragged import Layout, Packing

IMAGE, ROW = torch.tensor([1, 0, 2, 1, 2]), torch.tensor([1, 0, 0, 0, 2])
LENGTHS = torch.tensor([[2, 4, 0], [1, 1, 3]])


def test_a_sentence_stands_beside_its_image_in_its_row() -> None:
    layout, x = Layout.of(IMAGE, ROW), torch.randn(5, 4)
    block = layout.to_block(x)
    assert block.shape == (3, 3, 4)
    assert torch.equal(block[IMAGE, ROW], x)
    assert torch.equal(layout.to_sentences(block), x)


def test_a_full_block_is_the_sentences_in_their_order() -> None:
    x = torch.randn(6, 4)
    assert torch.equal(Layout(2).to_block(x), x.view(2, 3, 4))
    assert torch.equal(Layout(2).to_sentences(x.view(2, 3, 4)), x)


def test_images_after_the_last_that_has_a_sentence_have_gaps() -> None:
    layout, x = Layout.of(IMAGE, ROW, images=5), torch.randn(5, 4)
    assert layout.to_block(x).shape == (5, 3, 4)
    assert torch.equal(layout.to_block(x)[IMAGE, ROW], x)
    assert torch.equal(layout.to_sentences(layout.to_block(x)), x)


def test_a_full_block_in_another_order_is_put_in_order() -> None:
    image, row, x = torch.tensor([1, 0, 0, 1]), torch.tensor([0, 1, 0, 1]), torch.randn(4, 3)
    assert torch.equal(Layout.of(image, row).to_block(x)[image, row], x)
    assert Layout.of(image.sort().values, torch.tensor([0, 1, 0, 1])) == Layout(2)


def test_gradients_are_those_of_indexing() -> None:
    layout = Layout.of(IMAGE, ROW)
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    block = torch.randn(3, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layout.to_sentences, block)
    # What stands in the gaps must not matter, so that no gradient comes from there.
    assert torch.autograd.gradcheck(lambda x: layout.to_sentences(layout.to_block(x).square()), x)


def test_each_step_reads_the_sentences_that_are_not_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioner.models.decoder.ragged.ROWS", 1)
    real = torch.arange(4) < LENGTHS.unsqueeze(2)
    packing = Packing(real)
    assert packing.counts == [5, 3, 2, 1]
    assert packing.order.tolist() == [1, 5, 0, 3, 4, 2]
    for count, layout in zip(packing.counts, packing.layouts, strict=True):
        image, row = packing.order[:count] // 3, packing.order[:count] % 3
        numbers = torch.arange(count).unsqueeze(1)
        assert torch.equal(layout.to_block(numbers)[image, row], numbers)
    assert [layout.images for layout in packing.layouts] == [2, 2, 2, 1]


def test_sentences_that_are_over_fill_up_the_last_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioner.models.decoder.ragged.ROWS", 4)
    assert Packing(torch.arange(4) < LENGTHS.unsqueeze(2)).counts == [6, 4, 4, 4]


@pytest.mark.parametrize("rows", [1, 4])
def test_words_come_back_to_where_they_were(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioner.models.decoder.ragged.ROWS", rows)
    real = torch.arange(4) < LENGTHS.unsqueeze(2)
    packing, words = Packing(real), torch.rand(6, 4) + 1
    read = words[packing.sentence, packing.step]
    assert torch.equal(packing.by_sentence(read), words[real.flatten(0, 1)])
    assert torch.equal(packing.padded(words[real.flatten(0, 1)]), words * real.flatten(0, 1))
