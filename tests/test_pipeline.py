"""Photographs in, captions out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_captioner

import captioner
from captioner.decoding import DecodingOptions
from captioner.errors import CaptionerError
from captioner.images import open_image
from captioner.pipeline import Caption, Captioner, embedded_checkpoint
from captioner.vocabulary import join_words

SAMPLES = Path(__file__).parents[1] / "data" / "samples"


def test_one_gives_a_caption_and_several_a_list(tiny: Captioner, photos: Path) -> None:
    alone = tiny.caption(photos / "0.png")
    [first] = tiny.caption([photos / "0.png"])
    assert isinstance(alone, Caption)
    assert alone.text == first.text == join_words(alone.words)


def test_a_batch_equals_single_calls(tiny: Captioner, photos: Path) -> None:
    files = sorted(photos.iterdir())
    together = tiny.caption(files, num_captions=2)
    for file, caption in zip(files, together, strict=True):
        alone = tiny.caption(file, num_captions=2)
        assert caption.words == alone.words
        # Matrix products of other sizes round differently.
        assert caption.word_log_probabilities == pytest.approx(alone.word_log_probabilities, abs=1e-4)
        assert [c.words for c in caption.alternatives] == [c.words for c in alone.alternatives]


def test_attention_is_a_map_for_each_word(tiny: Captioner, photos: Path) -> None:
    caption = tiny.caption(photos / "0.png")
    assert caption.attention is not None
    assert caption.attention.shape == (len(caption.words), 2, 2)
    np.testing.assert_allclose(caption.attention.sum((1, 2)), 1, atol=1e-5)


def test_without_attention_there_is_none(photos: Path) -> None:
    assert make_captioner("none").caption(photos / "0.png").attention is None


def test_the_log_probability_is_what_the_network_says(tiny: Captioner, photos: Path) -> None:
    caption = tiny.caption(photos / "1.png", max_words=30)
    ids = [1, *(tiny.vocabulary.id(word) for word in caption.words), 2]
    image = tiny.transform(open_image(photos / "1.png"))
    with torch.inference_mode():
        outcome = tiny.model(image[None], torch.tensor([[ids]]))
    each = outcome.logits.log_softmax(-1).gather(1, outcome.targets[:, None])
    expected = each.sum().item() if len(caption.words) < 30 else each[:-1].sum().item()
    assert caption.log_probability == pytest.approx(expected, abs=1e-3)


def test_more_captions_are_other_captions_the_better_first(tiny: Captioner, photos: Path) -> None:
    caption = tiny.caption(photos / "0.png", num_captions=4, length_penalty=0)
    captions = [caption, *caption.alternatives]
    assert len({c.words for c in captions}) == 4
    scores = [c.log_probability for c in captions]
    assert scores == sorted(scores, reverse=True)


def test_a_bad_photograph_leaves_the_others_theirs(tiny: Captioner, photos: Path) -> None:
    (photos / "bad.jpg").write_text("no picture")
    names = ["0.png", "bad.jpg", "1.png"]
    results = list(tiny.stream([photos / name for name in names], DecodingOptions(), batch_size=2))
    assert [type(result) for result in results] == [Caption, CaptionerError, Caption]
    with pytest.raises(CaptionerError, match=r"bad\.jpg: is no image"):
        tiny.caption([photos / name for name in names])


def test_the_region_is_the_part_that_was_seen(photos: Path) -> None:
    assert make_captioner().caption(photos / "0.png").region == (0, 0, 1, 1)
    left, top, right, bottom = make_captioner(resize="crop").caption(photos / "0.png").region
    assert (left * 90, top, right * 90, bottom) == pytest.approx((15, 0, 75, 1))


def test_an_unknown_option_is_named(tiny: Captioner, photos: Path) -> None:
    with pytest.raises(CaptionerError, match="there is no decoding option 'beams'; choose from beam_size"):
        tiny.caption(photos / "0.png", beams=3)


def test_a_device_that_is_not_there_is_named(checkpoint: Path) -> None:
    with pytest.raises(CaptionerError, match="device 'abacus' cannot be used: .*; try cpu"):
        captioner.load(checkpoint, "abacus")


def test_the_embedded_model_captions_photographs() -> None:
    assert Path(embedded_checkpoint()).stat().st_size <= 40e6
    model = captioner.load()
    captions = model.caption(sorted(SAMPLES.glob("*.jpg")))
    assert all(3 <= len(caption.words) <= 20 for caption in captions)
    assert "man" in captions[0].words  # the astronaut
    assert len({caption.text for caption in captions}) == len(captions)
    assert all(math.isfinite(caption.log_probability) for caption in captions)
