"""Photographs become squares: their middle, or the whole on a ground."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from make_squares import GROUNDS, main, squared
from PIL import Image

from captioner.data.caption_files import read_records


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (10, 16, 3), np.uint8)


def test_a_crop_is_the_middle_and_a_ground_surrounds_the_whole(pixels: np.ndarray) -> None:
    image = Image.fromarray(pixels)
    assert (np.asarray(squared(image, "crop")) == pixels[:, 3:13]).all()
    assert (np.asarray(squared(Image.fromarray(pixels[:, :13]), "crop")) == pixels[:, 1:11]).all()
    for way, color in GROUNDS.items():
        whole = np.asarray(squared(image, way))
        assert whole.shape == (16, 16, 3)
        assert (whole[3:13] == pixels).all()
        assert (np.concatenate([whole[:3], whole[13:]]) == color).all()


def test_only_photographs_that_are_not_square_are_copied(
    pixels: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(pixels[:, :10]).save(tmp_path / "square.png")
    rows = [{"image": f"{name}.png", "captions": [f"a {name}"], "split": "val"} for name in ("wide", "square")]
    captions, output = tmp_path / "captions.jsonl", tmp_path / "squares"
    captions.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    assert main([str(captions), "--output", str(output), "--ways", "crop", "gray"]) == 0
    assert capsys.readouterr().out == "1 photographs\n"
    for way, side in (("crop", 10), ("gray", 16)):
        [record] = read_records(output / f"{way}.jsonl")
        assert record.captions == ("a wide",)
        assert Image.open(record.image).size == (side, side)
    [record] = read_records(output / "whole.jsonl", anywhere=True)
    assert record.image.samefile(tmp_path / "wide.png")
    assert main([str(captions), "--split", "test", "--output", str(output)]) == 1
    assert "split test has no photograph" in capsys.readouterr().err
