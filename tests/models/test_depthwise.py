"""Depthwise convolutions and their gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from captioner.models.efficientnet_lite import depthwise

CHANNELS = 16


def draw(side: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    images = torch.randn(2, CHANNELS, 9, 11).to(memory_format=torch.channels_last)
    return images.to(dtype).requires_grad_(), torch.randn(CHANNELS, 1, side, side).to(dtype).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_torchs_convolution(dtype: torch.dtype) -> None:
    images, weight = draw(3, dtype)
    for own, theirs in zip(
        derive(depthwise(images, weight, 2, 1), images, weight),
        derive(conv2d(images, weight, None, 2, 1, groups=CHANNELS), images, weight),
        strict=True,
    ):
        assert torch.equal(own, theirs)


@pytest.mark.parametrize(("side", "stride", "padding"), [(3, 1, 1), (5, 1, 2), (5, 2, 0)])
@pytest.mark.parametrize("lower", [torch.bfloat16, torch.float16])
def test_its_gradients_are_float32s_of_what_was_rounded(
    side: int, stride: int, padding: int, lower: torch.dtype
) -> None:
    images, weight = draw(side, torch.float32)
    with torch.autocast("cpu", lower):
        convolved = depthwise(images, weight, stride, padding)
        assert torch.equal(convolved, conv2d(images, weight, None, stride, padding, groups=CHANNELS))
    rounded = [each.detach().to(lower).float().requires_grad_() for each in (images, weight)]
    plain = conv2d(rounded[0], rounded[1], None, stride, padding, groups=CHANNELS)
    expected = derive(plain, rounded[0], rounded[1])

    of_images, of_weight = derive(convolved, images, weight)

    assert torch.equal(of_images, expected[0].to(lower).float())
    torch.testing.assert_close(of_weight, expected[1])


def test_what_is_not_learned_has_no_gradient() -> None:
    images, weight = draw(3, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert not depthwise(images.detach(), weight.detach(), 1, 1).requires_grad
        depthwise(images, weight.detach(), 1, 1).sum().backward()  # type: ignore[no-untyped-call]
        depthwise(images.detach(), weight, 1, 1).sum().backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    assert weight.grad is not None


def derive(convolved: Tensor, images: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """Gradients of images and weight, from one that differs from place to place."""
    torch.manual_seed(2)
    return torch.autograd.grad(convolved, (images, weight), torch.randint(-8, 8, convolved.shape).to(convolved.dtype))
