"""Convolution with one filter for each channel, made for training on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional


def depthwise(images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """The convolution; on a CPU its gradients are computed in float32, whatever it is computed in itself.

    oneDNN's kernels for those gradients in bfloat16 take 3 to 80 times as long as those in float32, which was more than
    half of the time of fine-tuning an EfficientNet-Lite.

    Args:
        images: Shape (images, channels, height, width).
        weight: Shape (channels, 1, side, side).
        stride: Of the filter.
        padding: Zeros added at each edge.
    """
    if images.is_cpu and torch.is_autocast_enabled("cpu"):
        images = images.to(torch.get_autocast_dtype("cpu"))
    if images.is_cpu and images.dtype in (torch.bfloat16, torch.float16) and torch.is_grad_enabled():
        convolved: Tensor = _Depthwise.apply(images, weight, stride, padding)
        return convolved
    return functional.conv2d(images, weight, None, stride, padding, groups=len(weight))


class _Depthwise(Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:  # noqa: ANN401
        ctx.stride, ctx.padding, ctx.dtype = stride, padding, weight.dtype
        weight = weight.to(images.dtype)
        ctx.save_for_backward(images, weight)
        return functional.conv2d(images, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # noqa: ANN401
        images, weight = ctx.saved_tensors
        of_images, of_weight, _ = torch.ops.aten.convolution_backward(
            gradient.float(),
            images.float(),
            weight.float(),
            bias_sizes=None,
            stride=[ctx.stride],
            padding=[ctx.padding],
            dilation=[1],
            transposed=False,
            output_padding=[0],
            groups=len(weight),
            output_mask=[*ctx.needs_input_grad[:2], False],
        )
        return (
            None if of_images is None else of_images.to(images.dtype),
            None if of_weight is None else of_weight.to(ctx.dtype),
            None,
            None,
        )
