"""Photographs in, captions out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_captioner
from PIL import Image

import captioner
from captioner.caption import Caption
from captioner.checkpoint.pretrained import DEFAULT, checkpoint_of
from captioner.data.images import open_image
from captioner.decoding import DecodingOptions
from captioner.errors import CaptionerError
from captioner.pipeline import Captioner
from captioner.text.vocabulary import START, join_words

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


@pytest.mark.parametrize("kind", ["soft", "multiplicative", "multi_head", "hard", "spatial", "adaptive", "top_down"])
def test_attention_is_a_map_for_each_word(kind: str, photos: Path) -> None:
    model = make_captioner(kind)
    caption = model.caption(photos / "0.png", max_words=8)
    assert caption.attention is not None
    assert caption.attention.shape == (len(caption.words), 8, 8)
    np.testing.assert_allclose(caption.attention.sum((1, 2)), 1, atol=1e-5)
    scored = model.score(photos / "0.png", caption.text)
    assert scored.attention is not None
    np.testing.assert_allclose(scored.attention, caption.attention, atol=1e-4)
    assert (caption.looking_away is None) == (kind != "adaptive")


def test_a_visual_sentinel_has_the_rest_of_the_attention(photos: Path) -> None:
    model = make_captioner("adaptive")
    caption = model.caption(photos / "0.png", max_words=8)
    assert caption.attention is not None
    assert caption.looking_away is not None
    [decoder] = model.model.decoder.members
    with torch.no_grad():
        grid = model.model.encoder(model.transform(open_image(photos / "0.png")).unsqueeze(0))
        state, before = decoder.start(grid), START
        for index, word in enumerate(caption.words):
            _, state, attention = decoder.step(torch.tensor([before]), state, grid)
            assert attention is not None
            cells, away = attention[0, :-1], float(attention[0, -1])
            assert caption.looking_away[index] == pytest.approx(away, abs=1e-5)
            np.testing.assert_allclose(caption.attention[index].flatten(), cells / (1 - away), atol=1e-5)
            before = model.vocabulary.id(word)


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
    with pytest.raises(CaptionerError, match=r"bad\.jpg: is text: give an image file"):
        tiny.caption([photos / name for name in names])


def test_photographs_are_asked_for_a_batch_at_a_time(tiny: Captioner, photos: Path) -> None:
    asked: list[int] = []

    def endless() -> Iterator[Path]:
        for number in count():
            asked.append(number)
            yield photos / f"{number % 3}.png"

    results = tiny.stream(endless(), DecodingOptions(max_words=2), batch_size=4)
    for taken in range(1, 10):
        next(results)
        assert len(asked) == -(-taken // 4) * 4


def test_one_picture_given_often_is_read_by_one_thread_at_a_time(tiny: Captioner, photos: Path) -> None:
    file = photos / "0.png"
    with Image.open(file) as image:
        texts = {caption.text for caption in tiny.caption([image] * 8)}
    assert texts == {tiny.caption(file).text}


def test_the_region_is_the_part_that_was_seen(photos: Path) -> None:
    assert make_captioner().caption(photos / "0.png").region == (0, 0, 1, 1)
    left, top, right, bottom = make_captioner(resize="crop").caption(photos / "0.png").region
    assert (left * 90, top, right * 90, bottom) == pytest.approx((15, 0, 75, 1))


def test_an_unknown_option_is_named(tiny: Captioner, photos: Path) -> None:
    with pytest.raises(CaptionerError, match="there is no decoding option 'beams'; choose from beam_size"):
        tiny.caption(photos / "0.png", beams=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"forbidden_words": ["hot dog"]}, "forbidden words has 'hot dog', which is 2 words to the model; give single"),
        ({"required_words": [""]}, "required words has '', which is 0 words to the model; give single words"),
        ({"required_words": ["zebra"]}, "required words has 'zebra', which the model does not know; use one of its"),
        ({"forbidden_words": [99]}, "forbidden words has the id 99, but the model's 15 words end before it"),
        (
            {"prompt": "a zebra on an ice"},
            "prompt has 'zebra', 'an', 'ice', which the model does not know; use its words",
        ),
        ({"prompt": "..."}, "prompt '...' has no words; give some, or no prompt"),
        ({"prompt": [99]}, "prompt has the id 99, but the model's 15 words end before it"),
        (
            {"prompt": "A dog", "forbidden_words": ["dog"]},
            "the prompt has 'dog', which is forbidden; drop one of the two",
        ),
    ],
)
def test_a_word_that_cannot_be_meant_is_named(
    tiny: Captioner, photos: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CaptionerError, match=re.escape(message)):
        tiny.caption(photos / "0.png", **options)


def test_words_of_options_are_text(tiny: Captioner, photos: Path) -> None:
    files = sorted(photos.iterdir())
    for caption in tiny.caption(files, required_words=["Grass", "red"], forbidden_words=["cat"]):
        assert {"grass", "red"} <= set(caption.words)
        assert "cat" not in caption.words
    endings = ["a", "the", "on", "zebra", "dog"]
    for caption in tiny.caption(files, num_captions=5, bad_endings=endings):
        assert not {each.words[-1] for each in (caption, *caption.alternatives) if each.words} & set(endings)


def test_a_caption_goes_on_from_a_prompt(photos: Path) -> None:
    captioner = make_captioner(members=2)
    for file, caption in zip(
        sorted(photos.iterdir()),
        captioner.caption(sorted(photos.iterdir()), prompt="The red dog", num_captions=3),
        strict=True,
    ):
        for each in (caption, *caption.alternatives):
            assert each.words[:3] == ("the", "red", "dog")
            assert each.given == 3
            whole = captioner.score(file, each.text)
            told = len(each.word_log_probabilities)  # a caption that was cut has no END
            assert each.word_log_probabilities == pytest.approx(whole.word_log_probabilities[:told], abs=1e-4)
            assert each.log_probability == pytest.approx(sum(each.word_log_probabilities[3:]))
            assert each.perplexity == pytest.approx(math.exp(-each.log_probability / (told - 3)))
            assert each.attention is not None
            assert whole.attention is not None
            np.testing.assert_allclose(each.attention, whole.attention, atol=1e-5)
    assert captioner.caption(file, prompt=" ") == captioner.caption(file)


def test_drawn_captions_do_not_depend_on_the_batch(tiny: Captioner, photos: Path) -> None:
    files = sorted(photos.iterdir())
    together = tiny.caption(files, sample=True, seed=3, num_captions=3)
    for file, caption in zip(files, together, strict=True):
        alone = tiny.caption(file, sample=True, seed=3, num_captions=3)
        assert [c.words for c in (alone, *alone.alternatives)] == [c.words for c in (caption, *caption.alternatives)]


def test_a_given_caption_is_scored(tiny: Captioner, photos: Path) -> None:
    written = tiny.caption(photos / "0.png", min_words=2, max_words=30)
    read = tiny.score(photos / "0.png", written.text)
    assert read.words == written.words
    assert read.word_log_probabilities[: len(read.words)] == pytest.approx(
        written.word_log_probabilities[: len(read.words)], abs=1e-4
    )
    assert read.perplexity == pytest.approx(math.exp(-np.mean(read.word_log_probabilities)))
    assert read.attention is not None
    several = tiny.score(photos / "0.png", ["A dog runs", written.text, "a zebra"])
    assert several[0].words == ("a", "dog", "runs")
    assert several[1].log_probability == pytest.approx(read.log_probability, abs=1e-4)
    assert several[2].words == ("a", "<unk>")
    assert tiny.score(photos / "0.png", []) == []


def test_what_is_no_caption_or_no_batch_size_is_told(tiny: Captioner, photos: Path) -> None:
    with pytest.raises(CaptionerError, match="a caption is None; give text"):
        tiny.score(photos / "0.png", ["a dog", None])  # type: ignore[list-item]
    for wrong in (2.0, 0):
        with pytest.raises(CaptionerError, match=rf"batch size is {wrong}; it must be a whole number of at least 1"):
            tiny.caption(photos / "0.png", batch_size=wrong)  # type: ignore[arg-type]


def test_words_to_forbid_may_be_numpys_ids(tiny: Captioner, photos: Path) -> None:
    id_ = tiny.vocabulary.id(tiny.caption(photos / "0.png", min_words=2).words[0])
    ids = np.array([id_])
    assert tiny.caption(photos / "0.png", min_words=2, forbidden_words=ids) == tiny.caption(
        photos / "0.png", min_words=2, forbidden_words=[id_]
    )


def test_an_ensemble_writes_what_its_members_find_likely_together(
    tiny: Captioner, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    other = make_captioner(size=96, seed=2)
    other.save(tmp_path / "other.safetensors")
    both = captioner.load([checkpoint, tmp_path / "other.safetensors"])
    caption = both.caption(photos / "0.png", max_words=30)
    single = [model.score(photos / "0.png", caption.text).log_probability for model in (tiny, other)]
    assert both.score(photos / "0.png", caption.text).log_probability == pytest.approx(sum(single) / 2, abs=1e-3)
    assert caption.attention is None  # 2 × 2 and 3 × 3 cells
    twins = captioner.load([checkpoint, checkpoint]).caption(photos / "0.png")
    assert twins.words == tiny.caption(photos / "0.png").words
    assert twins.attention is not None


def test_models_with_other_words_make_no_ensemble(checkpoint: Path) -> None:
    with pytest.raises(CaptionerError, match=r"tiny\.safetensors and .*: their words differ \(15 and \d+\); an "):
        captioner.load([checkpoint, "default"])
    with pytest.raises(CaptionerError, match="the list of checkpoints is empty"):
        captioner.load([])


def test_a_device_that_is_not_there_is_named(checkpoint: Path) -> None:
    with pytest.raises(CaptionerError, match="device 'abacus' is unknown; choose cpu, cuda, "):
        captioner.load(checkpoint, "abacus")


def test_the_embedded_model_captions_photographs() -> None:
    assert Path(checkpoint_of(DEFAULT)).stat().st_size <= 20e6
    model = captioner.load()
    captions = model.caption(sorted(SAMPLES.glob("*.jpg")))
    assert all(3 <= len(caption.words) <= 20 for caption in captions)
    assert {"man", "woman", "boy", "girl", "person"} & set(captions[0].words)  # the astronaut
    assert len({caption.text for caption in captions}) == len(captions)
    assert all(math.isfinite(caption.log_probability) for caption in captions)


@pytest.mark.parametrize(
    ("kinds", "shows"),
    [
        (["soft", "multiplicative"], True),
        (["adaptive", "adaptive"], True),
        (["soft", "adaptive"], False),
        (["soft", "none"], False),
    ],
)
def test_an_ensemble_shows_attention_where_all_members_do_alike(kinds: list[str], shows: bool, photos: Path) -> None:
    members = [make_captioner(kind) for kind in kinds]
    first = members[0]
    ensemble = Captioner(first.model, first.vocabulary, {}, others=[each.model for each in members[1:]])
    assert ensemble.shows_attention is shows
    assert (ensemble.caption(photos / "0.png", max_words=3).attention is not None) is shows


def test_what_is_no_path_no_caption_and_no_device_is_told(tiny: Captioner, photos: Path) -> None:
    for given in (3, [3], {"a": 1}):
        with pytest.raises(CaptionerError, match="a checkpoint is .*; give the path of a file, or a list of them"):
            captioner.load(given)  # type: ignore[arg-type]
    for nothing in (3, None):
        with pytest.raises(CaptionerError, match=f"a caption is {nothing}; give text"):
            tiny.score(photos / "0.png", nothing)  # type: ignore[call-overload]
    for device in ("gpu", "tpu"):
        with pytest.raises(CaptionerError, match=f"device '{device}' is unknown; choose cpu, cuda, "):
            captioner.load(device=device)
    for device in ("meta", "hpu"):
        with pytest.raises(CaptionerError, match=f"device '{device}' cannot be used: .*; try cpu"):
            captioner.load(device=device)
