"""EfficientNet-Lite with timm's parameter names, and depthwise convolutions that are fast on CPUs."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

VARIANTS = {
    "tf_efficientnet_lite0": (1.0, 1.0),
    "tf_efficientnet_lite1": (1.0, 1.1),
    "tf_efficientnet_lite2": (1.1, 1.2),
}
"""Width and depth multipliers of each variant, by timm's names."""

_STEM, _HEAD = 32, 1280
_EXPANSION = 6
_STAGES = (
    (1, 3, 1, 16),
    (2, 3, 2, 24),
    (2, 5, 2, 40),
    (3, 3, 2, 80),
    (3, 5, 1, 112),
    (4, 5, 2, 192),
    (1, 3, 1, 320),
)
"""Blocks, kernel size, stride of the first block and channels of each stage, at width and depth 1."""

_BATCH_NORM_EPS = 1e-3  # TensorFlow's


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite without its classifier.

    Args:
        name: One of `VARIANTS`.

    Attributes:
        num_features: Channels of the last feature map.
        pretrained_cfg: Preprocessing of its published weights, as in timm.
    """

    num_features = _HEAD
    pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bicubic"}  # noqa: RUF012

    def __init__(self, name: str) -> None:
        super().__init__()
        width, depth = VARIANTS[name]
        self.conv_stem = _Conv2dSame(3, _STEM, 3, 2)
        self.bn1 = _BatchNormReLU6(_STEM)
        stages = []
        channels = _STEM
        for index, (blocks, side, stride, base) in enumerate(_STAGES):
            # The first and the last stage keep their depth.
            blocks = blocks if index in (0, len(_STAGES) - 1) else math.ceil(blocks * depth)
            made = _round_to_eights(base * width)
            block: type[_DepthwiseSeparable] | type[_InvertedResidual]
            block = _DepthwiseSeparable if index == 0 else _InvertedResidual
            stages.append(
                nn.Sequential(
                    block(channels, made, side, stride), *(block(made, made, side, 1) for _ in range(blocks - 1))
                )
            )
            channels = made
        self.blocks = nn.Sequential(*stages)
        self.conv_head = _Conv2dSame(channels, _HEAD, 1, 1)
        self.bn2 = _BatchNormReLU6(_HEAD)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (images, 3, height, width) to the last feature map (images, channels, rows, columns)."""
        features: Tensor = self.bn1(self.conv_stem(images))
        features = self.bn2(self.conv_head(self.blocks(features)))
        return features

    def map_shape(self, size: int) -> tuple[int, int, int]:
        """Shape (channels, rows, columns) of the last feature map of square images of ``size`` pixels."""
        channels = 3
        for module in self.modules():
            if isinstance(module, _Conv2dSame):
                channels, size = module.out_channels, math.ceil(size / module.stride[0])
        return channels, size, size

    def fold_batch_norm(self) -> None:
        """Fold every batch norm into the convolution before it, which saves work and rounding."""
        for part in list(self.modules()):
            children = list(part.named_children())
            for (_, convolution), (name, norm) in pairwise(children):
                if isinstance(convolution, _Conv2dSame) and isinstance(norm, nn.BatchNorm2d):
                    convolution.absorb(norm)
                    setattr(part, name, nn.ReLU6(inplace=True) if isinstance(norm, _BatchNormReLU6) else nn.Identity())


class _Conv2dSame(nn.Conv2d):
    """A convolution without bias and with TensorFlow's padding: an odd row or column is added below or on the right."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, side, stride, (side - 1) // 2, groups=groups, bias=False)

    def reset_parameters(self) -> None:
        """Initialize the weights as Google's code does."""
        fan_out = self.kernel_size[0] * self.kernel_size[1] * self.out_channels // self.groups
        nn.init.normal_(self.weight, 0.0, math.sqrt(2 / fan_out))

    def forward(self, images: Tensor) -> Tensor:
        stride, padding = self.stride[0], (self.kernel_size[0] - 1) // 2
        # At stride 2, an even side has one zero less before it than after it. Equal padding on both sides, with a zero
        # before the filter's weights, gives the same sums; padding the images would take longer than the convolution.
        down, across = (int(stride == 2 and n % 2 == 0) for n in images.shape[-2:])
        weight = self.weight
        if (across or down) and torch.compiler.is_compiling():
            # Graph formats want kernels that are weights, not computed from them.
            images = functional.pad(images, (padding - across, padding, padding - down, padding))
            padding = 0
        elif across or down:
            weight = functional.pad(weight, (across, 0, down, 0))
        if self.groups > 1 and self.bias is None:
            return depthwise(images, weight, stride, padding)
        return functional.conv2d(images, weight, self.bias, stride, padding, groups=self.groups)

    @torch.no_grad()
    def absorb(self, norm: nn.BatchNorm2d) -> None:
        """Fold the batch norm that follows, in evaluation mode, into this convolution."""
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        self.weight.mul_(scale.view(-1, 1, 1, 1))
        self.bias = nn.Parameter(norm.bias - norm.running_mean * scale, requires_grad=False)


class _BatchNormReLU6(nn.BatchNorm2d):
    def __init__(self, channels: int) -> None:
        super().__init__(channels, _BATCH_NORM_EPS)

    def forward(self, features: Tensor) -> Tensor:
        return functional.relu6(super().forward(features), inplace=True)


class _DepthwiseSeparable(nn.Module):
    """Depthwise separable convolution."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = _Conv2dSame(inputs, inputs, side, stride, groups=inputs)
        self.bn1 = _BatchNormReLU6(inputs)
        self.conv_pw = _Conv2dSame(inputs, outputs, 1, 1)
        self.bn2 = nn.BatchNorm2d(outputs, _BATCH_NORM_EPS)

    def forward(self, features: Tensor) -> Tensor:
        features = self.bn1(self.conv_dw(features))
        return self.bn2(self.conv_pw(features))  # type: ignore[no-any-return]


class _InvertedResidual(nn.Module):
    """Inverted residual: expansion, depthwise convolution, projection (Sandler et al., MobileNetV2, 2018)."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int) -> None:
        super().__init__()
        inner = _EXPANSION * inputs
        self.conv_pw = _Conv2dSame(inputs, inner, 1, 1)
        self.bn1 = _BatchNormReLU6(inner)
        self.conv_dw = _Conv2dSame(inner, inner, side, stride, groups=inner)
        self.bn2 = _BatchNormReLU6(inner)
        self.conv_pwl = _Conv2dSame(inner, outputs, 1, 1)
        self.bn3 = nn.BatchNorm2d(outputs, _BATCH_NORM_EPS)
        self.has_skip = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        wide = self.bn2(self.conv_dw(self.bn1(self.conv_pw(features))))
        narrow: Tensor = self.bn3(self.conv_pwl(wide))
        return narrow + features if self.has_skip else narrow


def _round_to_eights(channels: float) -> int:
    """Round to the nearest multiple of 8 that is not more than a tenth smaller."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def depthwise(images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Depthwise convolution whose gradients are always computed in float32 on a CPU.

    oneDNN's kernels for these gradients take 3 to 80 times as long in bfloat16 as in float32, which was more than half
    of the time of fine-tuning an EfficientNet-Lite.

    Args:
        images: Shape (images, channels, height, width).
        weight: Shape (channels, 1, side, side).
        stride: Stride of the filter.
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
