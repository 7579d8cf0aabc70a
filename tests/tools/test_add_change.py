"""What training changed of one captioner, added to another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from add_change import add_change, main
from conftest import make_captioner

from captioner import checkpoint
from captioner.checkpoint import Checkpoint
from captioner.checkpoint.low_rank import project_to_low_rank


def changed(content: Checkpoint) -> Checkpoint:
    """The captioner with other weights of its decoder."""
    weights = {
        name: value + 0.1 * torch.randn_like(value)
        if name.startswith("decoder.") and value.is_floating_point()
        else value
        for name, value in content.weights.items()
    }
    return replace(content, weights=weights)


def test_a_change_behind_shortened_vectors_is_that_of_whole_ones() -> None:
    torch.manual_seed(5)
    whole = make_captioner("multiplicative")
    base = Checkpoint(whole.model.config, whole.vocabulary.words, whole.model.state_dict(), whole.card)
    grid = torch.randn(3, 4, 7) @ torch.randn(7, whole.model.encoder.channels)  # 7 numbers hold all that varies
    before = project_to_low_rank(base, 7, (grid.mT @ grid).double().mean(0) / 4)
    after = changed(before)
    model, _ = add_change(base, before, after, 1.0).build()
    expected, _ = after.build()
    assert expected.encoder.projection is not None
    captions = torch.tensor([[[1, 4, 5, 6, 2]]] * 3)
    told = model.decoder(grid, captions).logits
    torch.testing.assert_close(
        told, expected.decoder(expected.encoder.projection(grid), captions).logits, rtol=1e-3, atol=1e-3
    )


def test_half_a_change_is_the_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(6)
    one = make_captioner()
    base = Checkpoint(one.model.config, one.vocabulary.words, one.model.state_dict(), one.card)
    after = changed(base)
    for name, content in (("base", base), ("after", after)):
        checkpoint.write(tmp_path / f"{name}.safetensors", content)
    command = [str(tmp_path / "base.safetensors"), "--before", str(tmp_path / "base.safetensors")]
    command += ["--after", str(tmp_path / "after.safetensors"), "--output", str(tmp_path / "out.safetensors")]
    assert main([*command, "--share", "0.5"]) == 0
    written = checkpoint.read(tmp_path / "out.safetensors").weights
    for name, value in base.weights.items():
        torch.testing.assert_close(written[name].float(), ((value + after.weights[name]) / 2).float())
    checkpoint.write(tmp_path / "after.safetensors", replace(after, words=(*after.words[:-1], "other")))
    assert main(command) == 2
    assert "the three vocabularies differ" in capsys.readouterr().err
