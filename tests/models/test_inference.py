"""float32, bfloat16, and which of them a machine gets."""

from __future__ import annotations

import argparse
import copy
import dataclasses
from pathlib import Path
from typing import get_args

import pytest
import torch

import captioner
from captioner.cli.options import add_model_arguments
from captioner.errors import CaptionerError
from captioner.models.captioner import CaptionerConfig, CaptionModel
from captioner.models.decoder import Decoder, DecoderConfig
from captioner.models.decoder.config import Attention
from captioner.models.decoder.ops import can_pack
from captioner.models.inference import PRECISIONS, Dtypes, choose_dtypes, convert, has_fast_bfloat16, prepare
from captioner.pipeline import Captioner

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "has"), [("fpu avx512_bf16 sse", True), ("fpu amx_bf16", True), ("fpu avx512f", False), ("", False)]
)
def test_linux_tells_what_the_cpu_can(tmp_path: Path, flags: str, has: bool) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nbugs\t: amx_bf16\nflags\t\t: {flags}\n")
    assert has_fast_bfloat16(file) == has


def test_without_linux_nothing_is_known_of_the_cpu(tmp_path: Path) -> None:
    assert not has_fast_bfloat16(tmp_path / "none")


@pytest.mark.parametrize("fast", [True, False])
def test_auto_takes_what_is_fast_here(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    monkeypatch.setattr("captioner.models.inference.has_fast_bfloat16", lambda: fast)
    exact, half = torch.float32, torch.bfloat16
    assert choose_dtypes("auto", CPU) == (exact, half if fast else exact)
    assert choose_dtypes("auto", torch.device("cuda")) == (exact, exact)
    assert choose_dtypes("float32", CPU) == (exact, exact)
    assert choose_dtypes("bfloat16", CPU) == (half, half)


def test_another_precision_is_refused(checkpoint: Path) -> None:
    with pytest.raises(CaptionerError, match="precision 'int3' is unknown; choose one of auto, float32, bfloat16"):
        captioner.load(checkpoint, precision="int3")


def test_the_command_line_offers_all_of_them() -> None:
    parser = argparse.ArgumentParser()
    add_model_arguments(parser)
    assert [parser.parse_args(["--precision", each]).precision for each in PRECISIONS] == list(PRECISIONS)


def test_bfloat16_reads_captions_nearly_as_float32() -> None:
    exact, fast = captioner.load(), captioner.load(precision="bfloat16")
    photos = sorted(SAMPLES.glob("*.jpg"))
    texts = [caption.text for caption in exact.caption(photos)]
    expected = [exact.score(photo, text).log_probability for photo, text in zip(photos, texts, strict=True)]
    found = [fast.score(photo, text).log_probability for photo, text in zip(photos, texts, strict=True)]
    close = [one == pytest.approx(other, rel=0.05) for one, other in zip(found, expected, strict=True)]
    # A concept that is hardly among the likeliest in one precision may not be in the other.
    assert sum(close) >= 0.9 * len(photos)


def test_a_projection_computes_in_what_the_decoder_reads() -> None:
    model = CaptionModel(CaptionerConfig("timm/tf_efficientnet_lite0", feature_size=6), 20).eval()
    ready = prepare(model, Dtypes(encoder=torch.float32, decoder=torch.bfloat16))
    images = torch.randn(1, 3, 64, 64)
    found = ready.encoder(images)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), model.encoder(images), rtol=0.05, atol=0.05)


def test_the_model_itself_stays_as_it_was_loaded(tmp_path: Path) -> None:
    captioner.load().save(tmp_path / "exact.safetensors")
    captioner.load(precision="bfloat16").save(tmp_path / "fast.safetensors")
    assert (tmp_path / "fast.safetensors").read_bytes() == (tmp_path / "exact.safetensors").read_bytes()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("attention", get_args(Attention))
def test_any_decoder_computes_in_bfloat16(attention: Attention, tied: bool) -> None:
    torch.manual_seed(1)
    sizes = {"embedding_size": 8, "hidden_size": 12, "attention_size": 8}
    exact = Decoder(DecoderConfig(attention=attention, tied_embedding=tied, **sizes), 6, 20).eval()  # type: ignore[arg-type]
    for parameter in exact.parameters():
        torch.nn.init.normal_(parameter, std=0.5)  # words as different as trained ones
    half = convert(copy.deepcopy(exact), torch.bfloat16)
    grid, captions = torch.randn(2, 5, 6), torch.tensor([[[1, 7, 9, 2]], [[1, 5, 2, 0]]])
    with torch.no_grad():
        expected, found = exact(grid, captions).logits, half(grid.bfloat16(), captions).logits
        step = half.step(captions[:, 0, 0], half.start(grid.bfloat16()), grid.bfloat16())
    words = torch.bfloat16 if can_pack(exact.embedding.weight, torch.bfloat16) else torch.float32
    assert (found.dtype, step.logits.dtype, step.state.hidden.dtype) == (words, words, torch.bfloat16)
    if attention != "hard":  # another cell may be drawn
        wanted, error = expected.log_softmax(-1), found.float().log_softmax(-1) - expected.log_softmax(-1)
        assert error.abs().max() < 0.1 * wanted.std(dim=-1).mean()


def test_bfloat16_rounds_likely_words_less_than_their_logits() -> None:
    torch.manual_seed(1)
    exact = Decoder(DecoderConfig(embedding_size=32, hidden_size=32, attention_size=8), 6, 500).eval()
    with torch.no_grad():
        # As trained ones are: the likeliest logits are about 10, most are near 0.
        exact.output_bias.copy_(torch.randn(500).mul(3.5))
    grid, words = torch.randn(40, 5, 6).bfloat16(), torch.full((40,), 7)
    rounded, converted = copy.deepcopy(exact).to(torch.bfloat16), convert(copy.deepcopy(exact), torch.bfloat16)
    with torch.inference_mode():
        expected, plain, found = (
            decoder.step(words, decoder.start(seen), seen).logits.float().log_softmax(-1)
            for decoder, seen in ((exact, grid.float()), (rounded, grid), (converted, grid))
        )
    likely = expected > -4
    assert (found - expected)[likely].abs().mean() < 0.3 * (plain - expected)[likely].abs().mean()


def test_a_copy_that_has_lost_its_packed_matrices_writes_the_same() -> None:
    fast, photo = captioner.load(precision="bfloat16"), sorted(SAMPLES.glob("*.jpg"))[0]
    expected = fast.caption(photo).log_probability
    assert copy.deepcopy(fast).caption(photo).log_probability == pytest.approx(expected, rel=0.05)


def test_a_prepared_decoder_tells_the_same_next_words(tiny: Captioner) -> None:
    config = dataclasses.replace(tiny.model.config, encoder="resnet18", encoder_stage="layer1")
    model = CaptionModel(config, len(tiny.vocabulary)).eval()
    grid, words = torch.randn(2, 4, model.encoder.channels), torch.tensor([4, 5])
    prepared = prepare(model, Dtypes(torch.float32, torch.float32))
    with torch.inference_mode():
        expected, found = (
            decoder.step(words, decoder.start(grid), grid).logits
            for each in (model, prepared)
            for decoder in each.decoder.members
        )
    torch.testing.assert_close(found, expected)
    assert prepared.encoder is model.encoder  # a large CNN is not kept twice
