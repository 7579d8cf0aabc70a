"""Feature vectors that become shorter, and decoders that see the same."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch
from conftest import make_captioner

import captioner
from captioner import checkpoint
from captioner.checkpoint import Checkpoint
from captioner.checkpoint.low_rank import project_to_low_rank
from captioner.errors import CaptionerError
from captioner.models.decoder.config import Attention
from captioner.pipeline import Captioner


def content(one: Captioner) -> Checkpoint:
    return Checkpoint(one.model.config, one.vocabulary.words, one.model.state_dict(), one.card)


def moment_of(grid: torch.Tensor) -> torch.Tensor:
    return (grid.mT @ grid).mean(0) / grid.shape[1]


@pytest.mark.parametrize("attention", get_args(Attention))
@pytest.mark.parametrize("members", [1, 2])
def test_a_decoder_sees_what_it_saw_where_the_images_fill_no_more(attention: Attention, members: int) -> None:
    if attention == "hard" and members > 1:
        pytest.skip("hard attention has one member")
    torch.manual_seed(3)
    before = make_captioner(attention, members=members)
    grid = torch.randn(3, 4, 7) @ torch.randn(7, before.model.encoder.channels)
    after, _ = project_to_low_rank(content(before), 7, moment_of(grid.double())).build()
    assert after.encoder.projection is not None
    captions = torch.tensor([[[1, 4, 5, 6, 2]]] * 3)
    seen = ((before.model.decoder, grid), (after.decoder, after.encoder.projection(grid)))
    told = [decoder(features, captions) for decoder, features in seen]
    torch.testing.assert_close(told[1].logits, told[0].logits, rtol=1e-3, atol=1e-3)


def test_no_other_map_changes_the_products_less() -> None:
    """The error is the sum of the squares of the singular values that are left out, and another basis has more."""
    torch.manual_seed(4)
    before = make_captioner("multiplicative")
    channels = before.model.encoder.channels
    grid = torch.randn(500, 4, channels) @ torch.randn(channels, channels).tril() / 20
    moment = moment_of(grid.double())
    whole = content(before)
    after = project_to_low_rank(whole, 8, moment)
    changed = [name for name, value in whole.weights.items() if value.shape != after.weights[name].shape]
    assert {name.split(".")[-2] for name in changed} == {"context", "key", "initial_state"}
    matrix = torch.cat([whole.weights[name] for name in changed]).double()
    projection = after.weights["encoder.projection.weight"].double()
    shorter = torch.cat([after.weights[name] for name in changed]).double() @ projection
    values = torch.linalg.svdvals(matrix @ torch.linalg.cholesky(moment))
    assert error(matrix - shorter, moment) == pytest.approx(float(values[8:].square().sum()), rel=1e-3)
    plain = torch.linalg.eigh(moment).eigenvectors[:, -8:]
    assert error(matrix - matrix @ plain @ plain.T, moment) > 1.02 * error(matrix - shorter, moment)


def error(difference: torch.Tensor, moment: torch.Tensor) -> float:
    """Mean square of what a difference of matrices makes of feature vectors of this moment."""
    return float(torch.trace(difference @ moment @ difference.T))


def test_a_shortened_captioner_is_a_file_like_any_other(tmp_path: Path, photos: Path) -> None:
    before = make_captioner("multiplicative")
    with torch.no_grad():
        grid = before.model.encoder(torch.randn(4, 3, 64, 64))
    file = tmp_path / "short.safetensors"
    checkpoint.write(file, project_to_low_rank(content(before), 30, moment_of(grid.double())))
    short = captioner.load(file)
    assert short.model.encoder.channels == 30
    assert short.caption(photos / "0.png").attention is not None
    told = captioner.load(file, precision="bfloat16").caption(photos / "0.png")
    assert told.words


def test_what_cannot_be_shortened_is_refused() -> None:
    whole = content(make_captioner())
    moment = torch.eye(40)
    with pytest.raises(CaptionerError, match="its feature vectors have 40 numbers; 40 must be fewer"):
        project_to_low_rank(whole, 40, moment)
    with pytest.raises(CaptionerError, match="have 40 numbers; 0 must be fewer"):
        project_to_low_rank(whole, 0, moment)
    short = project_to_low_rank(whole, 8, moment)
    with pytest.raises(CaptionerError, match="its feature vectors have been shortened already"):
        project_to_low_rank(short, 4, moment)
