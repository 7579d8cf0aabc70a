"""Captions from a GPU are those from the CPU."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu import NEEDS_GPU
from torch import Tensor, nn

from captioner.cli import main
from captioner.models.encoder import GridEncoder
from captioner.pipeline import Captioner, load

pytestmark = [*NEEDS_GPU, pytest.mark.usefixtures("exact_products")]

SAMPLES = sorted((Path(__file__).parents[1] / "data" / "samples").glob("*.jpg"))
METHODS: list[dict[str, Any]] = [
    {"beam_size": 1},
    {"beam_size": 5, "num_captions": 3},
    {"beam_size": 4, "diverse_groups": 2, "num_captions": 2},
    {"beam_size": 3, "required_words": ("white",)},
    {"sample": True, "num_captions": 2, "seed": 1},
]


@pytest.fixture(scope="module")
def here() -> Captioner:
    return load()


@pytest.fixture(scope="module")
def there() -> Captioner:
    return load(device="cuda")


@pytest.fixture
def images(there: Captioner) -> Tensor:
    size = there.model.config.transform.size
    return torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(1)).cuda()


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_gpu_captions_as_the_cpu(here: Captioner, there: Captioner, method: dict[str, Any]) -> None:
    for expected, found in zip(here.caption(SAMPLES, **method), there.caption(SAMPLES, **method), strict=True):
        assert found.text == expected.text
        assert [each.text for each in found.alternatives] == [each.text for each in expected.alternatives]
        assert found.word_log_probabilities == pytest.approx(expected.word_log_probabilities, abs=1e-3)
        assert found.confidence == pytest.approx(expected.confidence, abs=1e-3)
        if expected.attention is not None:
            assert found.attention == pytest.approx(expected.attention, abs=1e-3)


def test_in_bfloat16_the_same_captions_are_as_likely(here: Captioner) -> None:
    half = load(device="cuda", precision="bfloat16")
    for caption in here.caption(SAMPLES):
        assert caption.source is not None
        found = half.score(caption.source, caption.text)
        assert found.log_probability == pytest.approx(caption.log_probability, abs=0.15 * len(caption.words))


def test_the_command_line_writes_the_same_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines = {}
    for device in ("cpu", "cuda"):
        assert main(["caption", *map(str, SAMPLES[:3]), "--device", device, "--precision", "float32"]) == 0
        lines[device] = capsys.readouterr().out
    assert lines["cuda"] == lines["cpu"]


@torch.inference_mode()
def test_both_layouts_have_the_same_grids(there: Captioner, images: Tensor) -> None:
    encoder = there.model.encoder
    assert weight_of(encoder).is_contiguous(memory_format=torch.channels_last)
    plain = copy.deepcopy(encoder).to(memory_format=torch.contiguous_format)
    assert not weight_of(plain).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(plain(images), encoder(images), rtol=1e-3, atol=1e-3)


def weight_of(encoder: GridEncoder) -> Tensor:
    """Of a convolution whose layouts differ."""
    convolutions = (part for part in encoder.modules() if isinstance(part, nn.Conv2d))
    return next(each.weight for each in convolutions if each.in_channels > 1 and each.kernel_size != (1, 1))


@torch.inference_mode()
def test_a_compiled_encoder_has_the_same_grids(there: Captioner, images: Tensor) -> None:
    pytest.importorskip("triton", reason="torch.compile needs triton")
    encoder = there.model.encoder
    torch.testing.assert_close(torch.compile(encoder)(images), encoder(images), rtol=1e-3, atol=1e-3)
