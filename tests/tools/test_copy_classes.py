"""What is changed of a classifier and of the gate, against the equations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from copy_classes import GATE, SHARPNESS, TAUGHT, main, measure_logits, open_copying

from captioner import Captioner
from captioner import checkpoint as checkpoints
from captioner.checkpoint import Checkpoint
from captioner.data.transforms import Transform, read_scaled, to_pixels
from captioner.models.captioner import CaptionerConfig, CaptionModel
from captioner.models.decoder import Decoder, DecoderConfig
from captioner.text.vocabulary import SPECIAL_WORDS, Vocabulary

PHOTOGRAPHS = sorted((Path(__file__).parents[2] / "data" / "samples").glob("*.jpg"))[:3]
WORDS = (*SPECIAL_WORDS, "dog", "lemur", "goldfish", "cat")


@pytest.fixture
def whole(tmp_path: Path) -> Checkpoint:
    torch.manual_seed(1)
    decoder = DecoderConfig(
        concepts="copy",
        embedding_size=8,
        hidden_size=8,
        attention_size=8,
        concept_size=8,
        concept_words=5,
        concept_classes=4,
    )
    model = CaptionModel(
        CaptionerConfig(encoder_stage="blocks.2", decoder=decoder, transform=Transform(64)), len(WORDS)
    )
    assert isinstance(model.decoder, Decoder)
    concepts = model.decoder.concepts
    assert concepts is not None
    first = len(SPECIAL_WORDS)
    concepts.word_ids.copy_(torch.tensor([0, first, first + 1, first + 2, first + 3]))
    concepts.class_words.copy_(torch.tensor([1, 2, 3, 0]))  # a dog, a lemur, a goldfish, and what has no word
    path = tmp_path / "copying.safetensors"
    Captioner(model, Vocabulary(WORDS), {}).save(path)
    return checkpoints.read(path)


def test_logits_are_the_classifiers_of_the_mean_vector(whole: Checkpoint) -> None:
    model, _ = whole.build()
    assert isinstance(model, CaptionModel)
    pixels = torch.stack([to_pixels(read_scaled(model.config.transform, path)) for path in PHOTOGRAPHS])
    with torch.inference_mode():
        mean = model.encoder(model.config.transform.normalize(pixels)).mean(1)
        expected = mean @ whole.weights["decoder.concepts.classes.weight"].T
    expected = expected + whole.weights["decoder.concepts.classes.bias"]
    torch.testing.assert_close(measure_logits(whole, PHOTOGRAPHS), expected, rtol=1e-4, atol=1e-5)


def test_classes_are_sharpened_and_those_that_come_up_often_held_back(whole: Checkpoint) -> None:
    logits = torch.tensor([[1.0, 0.0, -1.0, 0.2], [0.8, 0.1, -0.5, 0.0]])
    found = open_copying(whole, logits, {}).weights
    usual = (SHARPNESS * logits).softmax(1).mean(0)
    back = torch.tensor([max(0.0, float((4 * p).log())) for p in usual])
    assert back[0] > 1
    assert back[2] == 0
    name = "decoder.concepts.classes"
    torch.testing.assert_close(found[f"{name}.weight"], SHARPNESS * whole.weights[f"{name}.weight"])
    torch.testing.assert_close(found[f"{name}.bias"], SHARPNESS * whole.weights[f"{name}.bias"] - back)
    gate = "decoder.concepts.gate.bias"
    torch.testing.assert_close(found[gate], whole.weights[gate] + GATE)


def test_words_that_captions_taught_stand_for_no_class(whole: Checkpoint) -> None:
    found = open_copying(whole, torch.zeros(1, 4), {"dog": TAUGHT, "lemur": TAUGHT - 1, "cat": 10 * TAUGHT})
    assert found.weights["decoder.concepts.class_words"].tolist() == [0, 2, 3, 0]


def test_a_captioner_without_classes_is_told(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captions = tmp_path / "captions.csv"
    captions.write_text(f"image,caption,split\n{PHOTOGRAPHS[0]},a boat,train\n", encoding="utf-8")
    assert main([str(checkpoint), str(tmp_path / "out.safetensors"), "--captions", str(captions)]) == 2
    assert "has no classes to copy; train with decoder.concepts copy" in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()
