"""What a constructor leaves to `configure_model`, and what data and module hand to each other."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from captioner.cli import main
from captioner.errors import CaptionerError
from captioner.models.decoder import DecoderConfig
from captioner.training.datamodule import CaptionData
from captioner.training.module import CaptioningModule
from captioner.training.options import EncoderOptions, StartOptions

PICTURES = 20
ENCODER = EncoderOptions(weights="none", last_stage="blocks.2", image_size=32)
DECODER = DecoderConfig(embedding_size=16, hidden_size=16, attention_size=16)


@pytest.fixture
def data(shapes: Path) -> CaptionData:
    return CaptionData(str(shapes / "captions.jsonl"), min_count=1, workers=0)


def test_files_are_read_when_the_model_is_configured(data: CaptionData) -> None:
    module = CaptioningModule(data, ENCODER, DECODER, StartOptions("nowhere.ckpt"))
    with pytest.raises(CaptionerError, match=r"nowhere\.ckpt"):
        module.configure_model()


def test_a_file_that_cannot_be_used_is_told_before_the_run_has_a_folder(shapes: Path, tmp_path: Path) -> None:
    run = ["--trainer.default_root_dir", str(tmp_path / "run"), "--data.captions", str(shapes / "captions.jsonl")]
    assert main(["train", *run, "--model.encoder.weights", "nowhere.pth"]) == 2
    assert not (tmp_path / "run").exists()


def test_a_model_is_made_once_whoever_asks(data: CaptionData) -> None:
    module = CaptioningModule(data, ENCODER, DECODER)
    data.setup("fit")
    model = module.configured()
    module.configure_model()
    assert module.configured() is model
    assert data.train.transform is model.config.transform


def test_one_seed_gives_one_model_on_whatever_device_lightning_wants_it(data: CaptionData) -> None:
    states = []
    for device in ("cpu", "meta"):
        module = CaptioningModule(data, ENCODER, DECODER)
        torch.manual_seed(1)
        with torch.device(device):
            module.configure_model()
        states.append(module.state_dict())
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


def test_a_copy_of_the_module_has_the_same_data(data: CaptionData) -> None:
    module = CaptioningModule(data, ENCODER, DECODER)
    module.configure_model()
    assert copy.deepcopy(module).data is data
