"""The pointing game on scenes whose outcome is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioner.caption import Caption
from captioner.errors import CaptionerError
from captioner.metrics.grounding import Box, Scene, measure, named_categories, read_boxes
from captioner.pipeline import Captioner

SHARED_BOXES = Path(__file__).parents[3] / "shared" / "coco" / "annotations" / "boxes_val2017_subset.json"
WHOLE = (0.0, 0.0, 1.0, 1.0)


def scene(**boxes: list[Box]) -> Scene:
    return Scene(100, 100, boxes)


def look(*maps: list[list[float]], words: str, region: tuple[float, float, float, float] = WHOLE) -> Caption:
    return Caption(tuple(words.split()), (-1.0,) * (len(words.split()) + 1), np.array(maps, np.float32), region)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("a man and two puppies", [(1, "person"), (4, "dog")]),
        ("a hot dog", [(2, "hot dog")]),
        ("a teddy bear on a bear", [(2, "teddy bear"), (5, "bear")]),
        ("a hot", []),
        ("an orange shirt", []),
        ("the baseball player swings a baseball bat", [(2, "person"), (6, "baseball bat")]),
        ("", []),
    ],
)
def test_words_are_told_from_longer_names_that_hold_them(words: str, found: list[tuple[int, str]]) -> None:
    assert list(named_categories(words.split())) == found


def test_each_word_is_one_trial_against_the_boxes_of_its_category() -> None:
    upper_left: list[list[float]] = [[0.7, 0.1], [0.1, 0.1]]
    lower_right: list[list[float]] = [[0.0, 0.1], [0.2, 0.7]]
    things = scene(dog=[(0, 0, 50, 50)], person=[(0, 0, 100, 50), (50, 0, 50, 100)])
    result = measure(
        [
            (look(upper_left, upper_left, words="a dog"), things),
            (look(lower_right, lower_right, lower_right, words="dog man cat"), things),
            (look(upper_left, words="dog"), scene(cat=[(0, 0, 1, 1)])),
        ]
    )
    assert (result.images, result.trials, result.absent) == (2, 3, 2)
    assert (result.hits, result.center_hits) == (2, 1)
    assert result.random_hits == pytest.approx(0.25 + 0.25 + 0.75)
    assert result.mass == pytest.approx((0.7 + 0.0 + 0.8) / 3)
    assert result.pointing == 2 / 3
    assert result.random == pytest.approx(1.25 / 3)


def test_what_a_crop_left_out_gets_no_attention() -> None:
    region = (0.25, 0.0, 0.75, 1.0)
    even = [[0.25, 0.25], [0.25, 0.25]]
    hidden = measure([(look(even, words="dog", region=region), scene(dog=[(0, 0, 25, 100)]))])
    assert (hidden.hits, hidden.mass, hidden.random) == (0, 0, 0)
    seen = measure([(look(even, words="dog", region=region), scene(dog=[(25, 0, 25, 100)]))])
    assert seen.hits == 1
    assert [seen.mass, seen.random] == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("shape", [(7, 7), (3, 11), (1, 1)])
def test_even_attention_is_as_good_as_a_random_point(shape: tuple[int, int]) -> None:
    caption = Caption(("dog",), (0.0, 0.0), np.full((1, *shape), 1 / np.prod(shape), np.float32), (0.1, 0.03, 0.77, 1))
    result = measure([(caption, Scene(97, 61, {"dog": [(3.3, 9.1, 40.5, 30.2)]}))])
    assert 0 < result.mass < 1
    assert result.mass == pytest.approx(result.random, rel=1e-5)


def test_without_trials_there_are_no_shares() -> None:
    result = measure([(look([[1.0]], words="tree"), scene(dog=[(0, 0, 9, 9)]))])
    assert (result.images, result.trials, result.absent) == (1, 0, 0)
    nothing_drawn = measure([(look([[1.0]], words="dog"), scene())])
    assert (nothing_drawn.images, nothing_drawn.absent) == (0, 1)
    assert np.isnan([result.pointing, result.center, result.random, result.mass]).all()


def test_without_attention_there_is_nothing_to_measure() -> None:
    with pytest.raises(CaptionerError, match="no attention to measure; use a model trained with"):
        measure([(Caption(("dog",), (0.0,), None, WHOLE), scene(dog=[(0, 0, 9, 9)]))])


def test_given_captions_are_read_as_they_would_have_been_written(tiny: Captioner, photos: Path) -> None:
    photo = photos / "0.png"
    written = tiny.caption(photo, num_captions=3)
    several = [written, *written.alternatives]
    for caption, read in zip(several, tiny.score(photo, [each.text for each in several]), strict=True):
        assert read.words == caption.words
        assert read.region == caption.region
        assert caption.attention is not None
        assert read.attention is not None
        np.testing.assert_allclose(read.attention, caption.attention, atol=1e-5)
        count = len(caption.word_log_probabilities)
        np.testing.assert_allclose(read.word_log_probabilities[:count], caption.word_log_probabilities, atol=1e-4)


def boxes() -> dict[str, Any]:
    return {
        "images": [{"id": 5, "file_name": "a.jpg", "width": 64, "height": 48}],
        "categories": [{"id": 0, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": 5, "category_id": 0, "bbox": [1, 2, 3.5, 4]}],
    }


def test_boxes_are_read_from_cocos_format(tmp_path: Path) -> None:
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(boxes()))
    [(name, found)] = read_boxes(file).items()
    assert name == "a.jpg"
    assert (found.width, found.height, dict(found.boxes)) == (64, 48, {"dog": [(1, 2, 3.5, 4)]})
    assert found.mask("dog").sum() == 3 * 4  # pixel centres from 1.5 to 3.5, and from 2.5 to 5.5


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("images", "width", 0, "has the size 0 × 48: give width and height in pixels"),
        ("images", "file_name", 3, "it must be a text"),
        ("annotations", "bbox", [1, 2], r"has the box \[1, 2\]: give left, top, width and height"),
        ("annotations", "image_id", 6, "is of image 6 and category 0: list both"),
        ("annotations", "category_id", 1, "is of image 5 and category 1: list both"),
        ("annotations", "image_id", [], "it must be a whole number or a text"),
    ],
)
def test_damaged_boxes_are_told_by_their_place(
    part: str, field: str, value: object, message: str, tmp_path: Path
) -> None:
    content = boxes()
    content[part][0][field] = value
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(content))
    with pytest.raises(CaptionerError, match=message):
        read_boxes(file)


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED_BOXES.exists(), reason=f"{SHARED_BOXES} is missing")
def test_boxes_of_coco_lie_within_their_photographs() -> None:
    scenes = read_boxes(SHARED_BOXES)
    assert len(scenes) == 128
    found = [(scene, box) for scene in scenes.values() for category in scene.boxes for box in scene.boxes[category]]
    assert len(found) == 898
    for scene, (left, top, width, height) in found:
        assert min(left, top) >= -1
        assert left + width <= scene.width + 1
        assert top + height <= scene.height + 1


def test_a_photograph_may_be_of_another_size_than_its_boxes(tiny: Captioner) -> None:
    small, large = (tiny.score(Image.new("RGB", size, "red"), "a dog runs") for size in ((32, 24), (64, 48)))
    things = Scene(64, 48, {"dog": [(10, 10, 30, 20)]})
    assert measure([(small, things)]).mass == pytest.approx(measure([(large, things)]).mass, abs=1e-3)
