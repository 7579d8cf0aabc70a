"""The perplexity of a text to a language model."""

from __future__ import annotations

import math
from pathlib import Path

import perplexity
import pytest
import torch
from perplexity import main, measure

from captioner import checkpoint
from captioner.models.decoder import DecoderConfig
from captioner.models.language_model import LanguageConfig, LanguageModel
from captioner.text.vocabulary import END, SPECIAL_WORDS, START, Vocabulary

LINES = ["a dog runs", "N zebras", "a dog"]


@pytest.fixture
def model() -> LanguageModel:
    torch.manual_seed(1)
    decoder = DecoderConfig(attention="none", image_input="none", embedding_size=6, hidden_size=5)
    return LanguageModel(LanguageConfig(decoder, "tokens"), 8).eval()


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary([*SPECIAL_WORDS, "a", "dog", "runs", "N"])


@torch.inference_mode()
def token_by_token(model: LanguageModel, vocabulary: Vocabulary) -> tuple[int, float]:
    """Tokens, and their negative log-probability, of one step after the other."""
    grid = model.nothing(1)
    state, count, total = model.start(grid), 0, 0.0
    for line in LINES:
        token = START
        for following in (*map(vocabulary.id, line.split()), END):
            step = model.step(torch.tensor([token]), state, grid)
            total -= float(step.logits[0].log_softmax(0)[following])
            state, token, count = step.state, following, count + 1
        state = model.step(torch.tensor([END]), state, grid).state
    return count, total


@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_it_is_that_of_every_token_after_all_before_it(
    model: LanguageModel, vocabulary: Vocabulary, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perplexity, "CHUNK", chunk)
    count, total = token_by_token(model, vocabulary)
    found = measure(model, vocabulary, LINES)
    assert (found.tokens, found.unknown) == (count, 1) == (10, 1)
    assert found.nats == pytest.approx(total, rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(total / 10), rel=1e-5)


def test_the_command_tells_it(
    model: LanguageModel, vocabulary: Vocabulary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, text = tmp_path / "language_model.safetensors", tmp_path / "text.txt"
    checkpoint.write(file, checkpoint.Checkpoint(model.config, vocabulary.words, model.state_dict(), {}))
    text.write_text("".join(f"{line}\n" for line in LINES))
    assert main([str(file), str(text)]) == 0
    found = measure(model, vocabulary, LINES)
    told = f"perplexity {found.perplexity:.2f}, {math.log2(found.perplexity):.3f} bits a token"
    assert capsys.readouterr().out == f"{told}, 10 tokens, 1 of them unknown\n"
    assert main([str(file), str(tmp_path / "none.txt")]) == 1
    assert "none.txt: cannot be read" in capsys.readouterr().err
