"""Captioners of other languages in files: for torch and ONNX, of several models, and those of English."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_captioner
from safetensors import safe_open

import captioner as package
from captioner import checkpoint as checkpoints
from captioner.errors import CaptionerError
from captioner.export.onnx_files import write_onnx
from captioner.export.page import write_page
from captioner.pipeline import Captioner
from captioner.runtime.captioner import OnnxCaptioner
from captioner.text.pieces import Kind, Pieces
from captioner.text.vocabulary import Vocabulary

GERMAN = [
    "Ein Hund rennt über die Straße.",
    "Zwei Hunde spielen auf der Wiese.",
    "Die Männer stehen, der Hund bellt.",
]
KINDS: tuple[Kind, ...] = ("words", "unigram")


def made(kind: Kind) -> Captioner:
    tokenizer = Pieces.learn(GERMAN * 5, 90, kind) if kind == "unigram" else Pieces(kind)
    return make_captioner(vocabulary=Vocabulary.from_captions(GERMAN, 1, tokenizer=tokenizer))


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_files_for_torch_and_onnx_caption_as_the_model_does(kind: Kind, tmp_path: Path, image: np.ndarray) -> None:
    model = made(kind)
    model.save(tmp_path / "german.safetensors")
    write_onnx(tmp_path / "german.onnx", tmp_path / "german.safetensors")
    again = package.load(tmp_path / "german.safetensors", backend="torch")
    without_torch = OnnxCaptioner(tmp_path / "german.onnx")
    assert again.vocabulary.tokenizer == without_torch.vocabulary.tokenizer == model.vocabulary.tokenizer
    options: list[dict[str, Any]] = [
        {"num_captions": 3, "max_words": 6},
        {"required_words": ["Straße"], "forbidden_words": ["Hund"], "max_words": 4, "beam_size": 2},
        {"prompt": "Zwei Hunde", "max_words": 5},
    ]
    for each in options:
        best, other = again.caption(image, **each), without_torch.caption(image, **each)
        assert best == model.caption(image, **each)
        for one, two in zip((best, *best.alternatives), (other, *other.alternatives), strict=True):
            assert one.text == two.text
            assert one.words == two.words
            assert one.given == two.given == (2 if "prompt" in each else 0)
            assert two.word_log_probabilities == pytest.approx(one.word_log_probabilities, abs=0.02)
            assert "▁" not in one.text + "".join(one.words)
            assert one.continuation == one.text.removeprefix(each.get("prompt", "")).lstrip()
            assert "".join(one.words) == one.text.replace(" ", "")
            assert one.attention is not None
            assert len(one.attention) == len(one.words)
            assert len(one.word_log_probabilities) - len(one.words) in (0, 1)  # END, unless it was cut
            np.testing.assert_allclose(one.attention.sum((1, 2)), 1, rtol=1e-5)
    scored = without_torch.score(image, GERMAN[2])
    assert scored.text == GERMAN[2]
    assert scored.words == ("Die", "Männer", "stehen", ",", "der", "Hund", "bellt", ".")
    assert scored.log_probability == pytest.approx(model.score(image, GERMAN[2]).log_probability, abs=1e-3)


def test_english_files_have_no_tokenizer(tiny: Captioner, tmp_path: Path) -> None:
    tiny.save(tmp_path / "english.safetensors")
    with safe_open(tmp_path / "english.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["captioner"])
    assert header["format"] == 1
    assert header.keys() == {"format", "config", "words", "card"}


def test_files_of_several_models_keep_the_tokenizer(tmp_path: Path) -> None:
    made("words").save(tmp_path / "one.safetensors")
    [one] = checkpoints.read_members(tmp_path / "one.safetensors")
    checkpoints.write(tmp_path / "both.safetensors", one, one)
    assert [each.tokenizer for each in checkpoints.read_members(tmp_path / "both.safetensors")] == [Pieces("words")] * 2
    make_captioner().save(tmp_path / "english.safetensors")
    with pytest.raises(CaptionerError, match="words differ"):
        checkpoints.write(tmp_path / "x.safetensors", one, checkpoints.read(tmp_path / "english.safetensors"))


def test_a_page_takes_english_alone(tmp_path: Path) -> None:
    made("words").save(tmp_path / "german.safetensors")
    with pytest.raises(CaptionerError, match="writes another language, and a page English words"):
        write_page(tmp_path / "page.html", tmp_path / "german.safetensors", tmp_path)
