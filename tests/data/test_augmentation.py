"""What training images may vary by, and by no more."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from PIL import Image

from captioner.data.augmentation import Augmentation
from captioner.errors import CaptionerError
from captioner.training.datamodule import CaptionData

DRAWS = 200
SIZE = 100


def drawn(image: Image.Image, augmentation: Augmentation) -> list[np.ndarray]:
    """What two hundred epochs show of a photograph, float, (rows, columns, 3) each."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(DRAWS)]
    seen = [augmentation.disturb(augmentation.cut(image, each), each) for each in generators]
    return [np.asarray(each).astype(float) for each in seen]


def test_each_side_is_cropped_by_itself_and_keeps_its_share() -> None:
    seen = drawn(Image.new("RGB", (SIZE, 2 * SIZE)), Augmentation(crop=0.6))
    across, down = (
        np.array([each.shape[1] / SIZE for each in seen]),
        np.array([each.shape[0] / SIZE / 2 for each in seen]),
    )
    for shares in (across, down):
        assert shares.min() >= 0.6
        assert shares.max() - shares.min() > 0.3
    assert abs(np.corrcoef(across, down)[0, 1]) < 0.3


def test_crops_come_from_everywhere() -> None:
    places = np.arange(SIZE * SIZE).reshape(SIZE, SIZE)
    numbered = np.stack([places // 256, places % 256, places * 0], -1).astype(np.uint8)
    seen = drawn(Image.fromarray(numbered), Augmentation(crop=0.6))
    corners = [(int(each[0, 0, 0] * 256 + each[0, 0, 1]), each.shape) for each in seen]
    tops, lefts = [first // SIZE for first, _ in corners], [first % SIZE for first, _ in corners]
    assert min(tops) == min(lefts) == 0
    assert max(tops) > 20 < max(lefts)
    assert any(left + shape[1] == SIZE for left, (_, shape) in zip(lefts, corners, strict=True))


def test_brightness_varies_by_no_more_than_is_asked_for() -> None:
    # Neither contrast nor saturation changes an even grey.
    values = [each[0, 0, 0] for each in drawn(Image.new("RGB", (8, 8), (100, 100, 100)), Augmentation(jitter=0.4))]
    assert 59 <= min(values) < 70
    assert 130 < max(values) <= 140


def test_hues_stay() -> None:
    orange = (200, 120, 40)
    seen = drawn(Image.new("RGB", (8, 8), orange), Augmentation(jitter=0.2))
    hue, saturation, _ = colorsys.rgb_to_hsv(*orange)
    hues, saturations, _ = zip(*(colorsys.rgb_to_hsv(*each[0, 0]) for each in seen), strict=True)
    np.testing.assert_allclose(hues, hue, atol=0.01)
    assert min(saturations) < saturation - 0.05 < saturation + 0.05 < max(saturations)


def test_contrast_varies() -> None:
    halves = Image.new("L", (8, 8), 100)
    halves.paste(150, (0, 0, 8, 4))
    seen = drawn(halves.convert("RGB"), Augmentation(jitter=0.4))
    ratios = [each[0, 0, 0] / each[-1, 0, 0] for each in seen]
    assert min(ratios) < 1.45 < 1.55 < max(ratios)  # brightness alone would keep 1.5


def test_one_rectangle_of_at_most_the_share_is_covered() -> None:
    white = Image.new("RGB", (SIZE, SIZE), "white")
    sides = []
    for each in drawn(white, Augmentation(erase=0.5)):
        covered = each[..., 0] == 128
        rows, columns = covered.any(1), covered.any(0)
        np.testing.assert_array_equal(covered, rows[:, None] & columns)
        sides += [rows.sum(), columns.sum()]
    assert max(sides) <= SIZE / 2
    assert max(sides) - min(sides) > 0.4 * SIZE
    assert white.getextrema() == ((255, 255),) * 3  # the photograph itself is untouched


def test_the_same_chance_shows_the_same() -> None:
    photograph = Image.effect_noise((SIZE, SIZE), 60).convert("RGB")
    augmentation = Augmentation(crop=0.5, jitter=0.4, erase=0.5)
    for first, again in zip(drawn(photograph, augmentation), drawn(photograph, augmentation), strict=True):
        np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("crop", [0.0, 1.5, -1.0])
def test_a_senseless_crop_is_refused(crop: float) -> None:
    with pytest.raises(CaptionerError, match=f"data.crop is {crop}; it must be more than 0 and at most 1"):
        Augmentation(crop=crop)


@pytest.mark.parametrize("name", ["jitter", "erase"])
@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_senseless_share_is_refused(name: str, share: float) -> None:
    with pytest.raises(CaptionerError, match=rf"data\.{name} is {share}; it must be at least 0 and less than 1"):
        Augmentation(**{name: share})  # type: ignore[arg-type]


@pytest.mark.parametrize("varied", [{"crop": 0.9}, {"jitter": 0.1}, {"erase": 0.1}])
def test_cached_features_cannot_vary(varied: dict[str, float]) -> None:
    with pytest.raises(CaptionerError, match="cached features cannot vary by .*; set these to 1, 0 and 0, or drop"):
        CaptionData("captions.json", feature_cache="features.safetensors", **varied)  # type: ignore[arg-type]
