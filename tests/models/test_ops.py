"""Products with packed matrices."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from captioner.models.decoder.ops import Linear, can_pack, linear, pack

ROWS = {
    "none": lambda k: torch.randn(0, k),
    "one": lambda k: torch.randn(1, k),
    "a slice": lambda k: torch.randn(3, 2, k)[:, 1],
    "columns of another": lambda k: torch.randn(k, 5).T,
    "a batch": lambda k: torch.randn(2, 3, k),
}


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def layer(request: pytest.FixtureRequest) -> Linear:
    torch.manual_seed(1)
    return Linear(48, 20).to(request.param)


def packed(layer: Linear) -> Linear:
    """A copy of it; the test has nothing to say on machines where nothing is packed."""
    packed = copy.deepcopy(layer)
    pack(packed)
    if not can_pack(layer.weight, layer.weight.dtype):
        pytest.skip("this CPU's matrices are not packed")
    return packed


@pytest.mark.parametrize("rows", ROWS)
def test_a_packed_matrix_multiplies_as_before(layer: Linear, rows: str) -> None:
    x = ROWS[rows](48).to(layer.weight.dtype)
    with torch.inference_mode():
        expected, found = layer(x), packed(layer)(x)
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected)


def test_the_packed_matrix_is_what_is_multiplied(layer: Linear) -> None:
    other, x = packed(layer), torch.ones(1, 48, dtype=layer.weight.dtype)
    with torch.no_grad():
        before = other(x)
        other.weight.zero_()
        assert torch.equal(other(x), before)


def test_gradients_take_the_matrix_itself(layer: Linear) -> None:
    def gradient(of: Linear) -> Tensor:
        x = torch.ones(2, 48, dtype=layer.weight.dtype, requires_grad=True)
        of(x).float().square().sum().backward()
        assert x.grad is not None
        return x.grad

    assert torch.equal(gradient(packed(layer)), gradient(layer))


def test_what_is_not_packed_is_multiplied_by_torch(layer: Linear) -> None:
    x = torch.randn(3, 48, dtype=layer.weight.dtype)
    with torch.no_grad():
        assert torch.equal(linear(x, layer.weight, layer.bias), torch.nn.functional.linear(x, layer.weight, layer.bias))
