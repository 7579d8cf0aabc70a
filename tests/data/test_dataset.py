"""Batches: their order, their padding, their chance."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from captioner.data.augmentation import Augmentation
from captioner.data.dataset import CaptionDataset, Example, collate
from captioner.data.records import Record
from captioner.data.sampler import Draw, DrawSampler
from captioner.data.transforms import Transform
from captioner.errors import CaptionerError
from captioner.text.vocabulary import END, PAD, START, Vocabulary

TRANSFORM = Transform(size=8)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (16, 16), "red")
    image.paste("blue", (8, 0, 16, 16))
    image.save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def dataset_of(
    picture: Path, *captions: str, most: int = 5, augmentation: Augmentation | None = None
) -> CaptionDataset:
    vocabulary = Vocabulary.from_captions(captions, min_count=1)
    return CaptionDataset([Record(picture, captions, "train", 1)], vocabulary, TRANSFORM, most, augmentation)


def example(image_index: int, *lengths: int) -> Example:
    return Example(torch.full((1,), image_index), [[START] + [5] * (n - 2) + [END] for n in lengths], image_index)


def test_a_batch_has_the_longer_captions_first_and_loses_none() -> None:
    batch = collate([example(0, 4, 6), example(1, 3), example(2, 7, 2, 5)])
    assert batch.indices.tolist() == [2, 0, 1]
    assert batch.images.flatten().tolist() == [2, 0, 1]
    assert (batch.captions != PAD).sum(-1).tolist() == [[7, 5, 2], [6, 4, 0], [3, 0, 0]]
    assert batch.captions[0, 0].tolist() == [START, 5, 5, 5, 5, 5, END]


def test_all_captions_are_taken_where_they_are_few(picture: Path) -> None:
    dataset = dataset_of(picture, "a", "a b", "a b c")
    assert [len(ids) for ids in dataset[Draw(0, 1)].captions] == [3, 4, 5]


def test_of_many_captions_some_are_drawn_by_the_seed(picture: Path) -> None:
    dataset = dataset_of(picture, *"abcdefgh", most=3)
    draws = [sorted(ids[1] for ids in dataset[Draw(0, seed)].captions) for seed in range(20)]
    assert all(len(set(draw)) == 3 for draw in draws)
    assert len({tuple(draw) for draw in draws}) > 5
    assert draws[7] == sorted(ids[1] for ids in dataset[Draw(0, 7)].captions)


def test_pixels_are_those_that_captioning_sees(picture: Path) -> None:
    pixels = dataset_of(picture, "a")[Draw(0, 1)].image
    expected = TRANSFORM(Image.open(picture))
    torch.testing.assert_close(TRANSFORM.normalize(pixels), expected)


def test_a_flip_mirrors_every_second_image(picture: Path) -> None:
    dataset = dataset_of(picture, "a", augmentation=Augmentation(flip=True))
    plain = to_image(dataset_of(picture, "a"), 0)
    mirrored = 0
    for seed in range(200):
        seen = to_image(dataset, seed)
        if not torch.equal(seen, plain):
            assert torch.equal(seen, plain.flip(-1))
            mirrored += 1
    assert 70 < mirrored < 130


@pytest.mark.parametrize("augmentation", [Augmentation(crop=0.5), Augmentation(jitter=0.4), Augmentation(erase=0.5)])
def test_an_image_varies_from_draw_to_draw(picture: Path, augmentation: Augmentation) -> None:
    dataset = dataset_of(picture, "a", augmentation=augmentation)
    assert len({to_image(dataset, seed).numpy().tobytes() for seed in range(50)}) > 5


def to_image(dataset: CaptionDataset, seed: int) -> torch.Tensor:
    return dataset[Draw(0, seed)].image


def test_an_epoch_has_every_image_once_in_an_order_of_its_own() -> None:
    sampler = DrawSampler(50, shuffle=True)
    first = list(sampler)
    assert sorted(draw.image_index for draw in first) == list(range(50))
    assert list(sampler) == first
    sampler.set_epoch(1)
    second = list(sampler)
    assert [d.image_index for d in second] != [d.image_index for d in first]
    assert {d.seed for d in second}.isdisjoint(d.seed for d in first)


@pytest.mark.parametrize(("size", "processes"), [(12, 3), (13, 3), (14, 3), (5, 4), (4, 4)])
def test_several_processes_take_turns_and_equally_many(size: int, processes: int) -> None:
    whole = list(DrawSampler(size, shuffle=True))
    samplers = [DrawSampler(size, shuffle=True, rank=rank, processes=processes) for rank in range(processes)]
    shares = [list(sampler) for sampler in samplers]
    assert {len(share) for share in shares} == {len(sampler) for sampler in samplers} == {-(-size // processes)}
    in_turns = [draw for turn in zip(*shares, strict=True) for draw in turn]
    assert in_turns[:size] == whole
    assert in_turns[size:] == whole[: len(in_turns) - size]


@pytest.mark.parametrize(("size", "processes"), [(12, 3), (13, 3), (14, 3)])
def test_several_processes_validate_each_image_once(size: int, processes: int) -> None:
    samplers = [DrawSampler(size, shuffle=False, rank=rank, processes=processes) for rank in range(processes)]
    shares = [list(sampler) for sampler in samplers]
    assert [len(share) for share in shares] == [len(sampler) for sampler in samplers]
    assert sorted(draw for share in shares for draw in share) == list(DrawSampler(size, shuffle=False))


def test_several_processes_go_on_with_what_none_of_them_has_seen() -> None:
    for rank in range(3):
        whole = list(DrawSampler(14, shuffle=True, rank=rank, processes=3))
        rest = DrawSampler(14, shuffle=True, seen=(0, 6), rank=rank, processes=3)
        assert list(rest) == whole[2:]
        rest.set_epoch(1)
        assert len(list(rest)) == 5


def test_validation_keeps_the_order_and_what_is_drawn() -> None:
    sampler = DrawSampler(5, shuffle=False)
    first = list(sampler)
    assert [draw.image_index for draw in first] == [0, 1, 2, 3, 4]
    sampler.set_epoch(1)
    assert list(sampler) == first


def test_a_caption_without_words_is_named(picture: Path) -> None:
    vocabulary = Vocabulary.from_captions(["a"], min_count=1)
    records = [Record(picture, ("a", "."), "train", 1)]
    with pytest.raises(CaptionerError, match=r"caption '\.' of .*picture\.png has no words; remove it or write one"):
        CaptionDataset(records, vocabulary, TRANSFORM, 5)
