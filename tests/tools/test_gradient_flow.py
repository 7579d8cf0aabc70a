"""tools/experiments/gradient_flow.py: gradients and gates against closed forms, and the command line on generated
captions."""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import gradient_flow
import pytest
import torch
from gradients import gate_values, gradient_norms, largest_singular_value
from PIL import Image
from torch import Tensor

from captioner.errors import CaptionerError
from captioner.models.decoder import Decoder, DecoderConfig

VOCABULARY, STEPS = 9, 7
TINY = ["--words", "10", "--hidden-size", "8", "--steps", "2", "--batch-size", "4"]


def make(cell: str, size: int) -> Decoder:
    """A language model with random weights, large enough to leave the cells' linear range."""
    torch.manual_seed(4)
    config = DecoderConfig(cell, "none", "none", size, size, dropout=0.0)  # type: ignore[arg-type]
    decoder = Decoder(config, 0, VOCABULARY).double()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter)
    return decoder


def sentences(count: int) -> Tensor:
    return torch.randint(4, VOCABULARY, (count, STEPS + 1), generator=torch.Generator().manual_seed(5))


def memories(decoder: Decoder, words: Tensor) -> list[tuple[Tensor, ...]]:
    """What is remembered before the first of some words and after each, of a single sentence."""
    state = decoder.start(torch.zeros(1, 0, 0))
    found = [state.recurrent]
    for word in words.view(-1, 1):
        state = decoder.step(word, state, torch.zeros(1, 0, 0)).state
        found.append(state.recurrent)
    return found


def test_of_one_unit_a_gradient_is_a_product() -> None:
    decoder, words = make("rnn", 1), sentences(3)
    norms = gradient_norms(decoder, words)
    assert norms.shape == (1, 3, STEPS)
    weight = decoder.core.cells.weights(0)[1].detach().abs()
    for sentence, found in zip(words, norms[0], strict=True):
        h = torch.stack([memory[0].detach().flatten() for memory in memories(decoder, sentence[:-1])]).flatten()
        # ∂h_s / ∂h_{s-1} = (1 - h_s²) w
        for distance in range(STEPS):
            factors = (1 - h[STEPS + 1 - distance :].square()) * weight.flatten()
            torch.testing.assert_close(found[distance] / found[0], factors.prod())


def test_where_nothing_recurs_but_c_its_gradient_is_the_product_of_the_forget_gates() -> None:
    decoder, words = make("lstm", 1), sentences(1)
    torch.nn.init.zeros_(decoder.core.cells.weights(0)[1])
    h, c = gradient_norms(decoder, words)[:, 0]
    assert h[0] > 0
    assert h[1:].tolist() == [0.0] * (STEPS - 1)
    assert c[0] == 0
    forget = gate_values(decoder, words[0, :-1])[1, :, 0]
    # c at distance d passes the forget gates of the d - 1 steps before the last but one; the last is in all of them.
    for distance in range(1, STEPS):
        torch.testing.assert_close(c[distance] / c[1], forget[STEPS - distance : STEPS - 1].prod())


def test_gates_are_what_the_cell_multiplies_with() -> None:
    decoder, words = make("lstm", 5), sentences(1)[0]
    read = memories(decoder, words)
    for place, (i, f, o) in enumerate(gate_values(decoder, words).unbind(dim=1)):
        old_h, old_c = (part.detach().requires_grad_() for part in read[place])
        projected = decoder.core.project(decoder.embedding(words[place].view(1))).detach().requires_grad_()
        h, c = decoder.core.cells.step(projected, (old_h, old_c))
        derivative, of_affine = torch.autograd.grad(c.sum(), [old_c, projected])
        torch.testing.assert_close(f, derivative.flatten())
        torch.testing.assert_close(o, (h / torch.tanh(c)).flatten())
        # i tanh(g) is what c has gained, and i (1 - tanh²(g)) its derivative by g.
        gained = (c - f * old_c).flatten()
        torch.testing.assert_close(i - gained.square() / i, of_affine.chunk(4, dim=1)[2].flatten())


@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_the_singular_value_is_the_largest_of_any_gate(cell: str, gates: int) -> None:
    decoder = make(cell, 3)
    with torch.no_grad():
        # An orthogonal matrix times diag(1, -5, 2) times another.
        known = [torch.linalg.qr(torch.randn(3, 3, dtype=torch.double))[0] for _ in range(2)]
        values = torch.diag(torch.tensor([1.0, -5.0, 2.0], dtype=torch.double))
        others = [torch.eye(3, dtype=torch.double)] * (gates - 1)
        decoder.core.cells.weights(0)[1].copy_(torch.cat([*others, known[0] @ values @ known[1]]))
    assert largest_singular_value(decoder) == pytest.approx(5)


def run(tmp_path: Path, *more: str) -> dict[str, Any]:
    numbers = tmp_path / "flow.json"
    assert gradient_flow.main([str(tmp_path / "flow.png"), "--json", str(numbers), *TINY, *more]) == 0
    content: dict[str, Any] = json.loads(numbers.read_text())
    return content


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient_flow, "MOST_CAPTIONS", 100)
    found = run(tmp_path, "--clip", "0.5", "--scale", "3")
    with Image.open(tmp_path / "flow.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000
    assert found["text"] == "shapes"
    cells = [("rnn", 1), ("rnn", 3), ("gru", 1), ("lstm", 1)]
    assert [(r["cell"], r["scale"], r["clip"]) for r in found["runs"]] == [(*c, x) for c in cells for x in (None, 0.5)]
    for run_ in found["runs"]:
        assert run_["initial"]["largest_singular_value"] == pytest.approx(run_["scale"])
        assert len(run_["trained"]["h"]) == 10
        assert ("c" in run_["trained"]) == ("gates" in run_) == (run_["cell"] == "lstm")
        assert len(run_["losses"]) == len(run_["gradient_norms"]) == 2
    assert "<end>" in found["runs"][-1]["gates"]["words"]

    assert run(tmp_path, "--clip", "0.5", "--scale", "3") == found
    assert run(tmp_path, "--clip", "0.5", "--scale", "3", "--seed", "2")["runs"] != found["runs"]


def test_clipping_changes_what_is_learned_and_nothing_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient_flow, "MOST_CAPTIONS", 100)
    free, clipped = run(tmp_path, "--clip", "1e-3")["runs"][2:4]
    assert clipped["initial"] == free["initial"]
    assert clipped["gradient_norms"][0] == free["gradient_norms"][0] > 1e-3
    assert clipped["trained"] != free["trained"]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl", "a.jsonl.gz"])
def test_captions_are_read_in_either_form(tmp_path: Path, name: str) -> None:
    lines = (
        '{"captions": ["a dog", "a cat"]}\n{"captions": ["two dogs"]}\n'
        if "jsonl" in name
        else "a dog\na cat\n\ntwo dogs"
    )
    content = lines.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert [caption.strip() for caption in gradient_flow.read_captions(tmp_path / name)] == [
        "a dog",
        "a cat",
        "two dogs",
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.txt", None, "missing.txt: cannot be read"),
        ("a.jsonl", b'{"caption": "a dog"}', "a.jsonl: cannot be read"),
        ("a.gz", b"a dog", "a.gz: cannot be read"),
        ("a.txt", b"\xff", "a.txt: cannot be read"),
        ("a.txt", b"a dog runs\n" * 6, "the text has 24 words, less than 10 sequences of 10"),
        ("a.txt", b"a dog runs\n" * 4, "no word of the training captions occurs 5 times"),
    ],
)
def test_a_text_of_no_use_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert gradient_flow.main([str(tmp_path / "flow.png"), "--text", str(tmp_path / name), *TINY]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "flow.png").exists()


def test_a_loss_that_is_not_finite_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = make("rnn", 3).float()
    with torch.no_grad():
        decoder.output_bias.fill_(torch.nan)
    args = argparse.Namespace(steps=1, batch_size=2, learning_rate=1.0)
    with pytest.raises(CaptionerError, match="the loss of step 0 is nan; lower --scale or --learning-rate"):
        gradient_flow.train(decoder, sentences(4), None, args)
