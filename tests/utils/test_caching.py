"""Caches change no result: everything that has one is run with caches off as well."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from conftest import make_captioner
from PIL import Image
from torch import Tensor

import captioner.utils.caching
from captioner.data.entries import find_columns
from captioner.metrics.grounding import categories_in
from captioner.models.decoder import Decoder, DecoderConfig
from captioner.models.decoder.ops import Unrolled, linear
from captioner.text.tokenizer import tokenize
from captioner.utils.caching import Attached, Scope, disabled, memoized

PACKAGE = Path(captioner.__file__).parent
CACHES = Path(captioner.utils.caching.__file__)


@pytest.mark.parametrize("attention", ["soft", "adaptive", "top_down"])
@pytest.mark.parametrize(
    "options", [{"beam_size": 3}, {"sample": True, "top_p": 0.9}, {"beam_size": 4, "diverse_groups": 2}]
)
def test_captions_are_the_same_without_caches(attention: str, options: dict[str, int], photos: Path) -> None:
    model = make_captioner(attention)
    expected = model.caption(photos / "0.png", **options)
    with disabled():
        found = model.caption(photos / "0.png", **options)
        scored = model.score(photos / "0.png", expected.text)
    assert found.words == expected.words
    assert found.word_log_probabilities == pytest.approx(expected.word_log_probabilities, rel=1e-5, abs=1e-4)
    assert scored.words == expected.words


def test_caches_that_are_off_are_not_read(monkeypatch: pytest.MonkeyPatch, photos: Path) -> None:
    model = make_captioner()
    expected = model.caption(photos / "0.png", beam_size=2)
    monkeypatch.setattr(Attached, "set", lambda *_: pytest.fail("nothing is stored after loading"))
    with disabled():
        for owner in (*model.model.decoder.modules(), *model.model.decoder.parameters()):
            for name in [name for name in vars(owner) if name.startswith("_attached_")]:
                vars(owner)[name] = None
        assert model.caption(photos / "0.png", beam_size=2).words == expected.words


@pytest.mark.parametrize("attention", ["soft", "multiplicative", "adaptive", "top_down", "spatial"])
def test_gradients_are_the_same_without_caches(attention: str) -> None:
    def gradients() -> list[Tensor]:
        torch.manual_seed(1)
        config = DecoderConfig(attention=attention, embedding_size=8, hidden_size=7, attention_size=5, dropout=0.0)  # type: ignore[arg-type]
        decoder = Decoder(config, 6, 11).double()
        captions = torch.tensor([[[1, 5, 6, 7, 2], [1, 9, 2, 0, 0]], [[1, 8, 2, 0, 0], [1, 2, 0, 0, 0]]])
        decoder(torch.randn(2, 4, 6, dtype=torch.double), captions).logits.logsumexp(1).sum().backward()
        return [parameter.grad for parameter in decoder.parameters() if parameter.grad is not None]

    expected = gradients()
    with disabled():
        found = gradients()
    assert len(expected) == len(found) > 5
    torch.testing.assert_close(found, expected)


def test_a_loop_that_is_off_multiplies_as_usual() -> None:
    weight = torch.nn.Parameter(torch.randn(3, 4))
    with Unrolled():
        assert Unrolled.linear(torch.randn(2, 4), weight).grad_fn.name() == "_ProductBackward"  # type: ignore[union-attr]
        with disabled():
            x = torch.randn(2, 4)
            found = Unrolled.linear(x, weight)
            assert found.grad_fn.name() != "_ProductBackward"  # type: ignore[union-attr]
            assert torch.equal(found, linear(x, weight))


def test_text_is_the_same_without_caches() -> None:
    captions = ["A dog's ball, red.", "two dogs (small) run 1/2 mile", "a fire hydrant beside a teddy bear"]
    names = ("file_name", "caption", "split")
    expected = tokenize(captions), find_columns(names), categories_in(captions[2].split())
    with disabled():
        assert (tokenize(captions), find_columns(names), categories_in(captions[2].split())) == expected


def test_maps_are_painted_the_same_without_caches() -> None:
    import numpy as np

    from captioner.visualize.overlay import paint

    photograph, weights = Image.new("RGB", (40, 30), "red"), np.linspace(0, 1, 4, dtype=np.float32).reshape(2, 2)
    expected = paint(photograph, weights, (0, 0, 1, 1))
    with disabled():
        assert paint(photograph, weights, (0, 0, 1, 1)).tobytes() == expected.tobytes()


def test_results_are_computed_once_unless_caches_are_off() -> None:
    calls = []

    @memoized()
    def square(x: int) -> int:
        calls.append(x)
        return x * x

    assert [square(3), square(3)] == [9, 9]
    assert calls == [3]
    with pytest.raises(KeyError), disabled():
        assert [square(3), square(3)] == [9, 9]
        raise KeyError
    assert calls == [3, 3, 3]
    assert square(3) == 9
    assert len(calls) == 3


def test_scopes_nest_and_end() -> None:
    class One(Scope):
        pass

    class Other(Scope):
        pass

    outer, inner = One(), One()
    with outer:
        with inner:
            assert One.current() is inner
            assert Other.current() is None
        assert One.current() is outer
        with disabled():
            assert One.current() is None
    assert One.current() is None


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_one_module_keeps_values_between_calls(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [node.names for node in ast.walk(tree) if isinstance(node, ast.Global)]
    taken = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    hidden = bool(names) or not taken.isdisjoint({"lru_cache", "cache", "ContextVar", "ClassVar"})
    assert hidden == (path == CACHES)
