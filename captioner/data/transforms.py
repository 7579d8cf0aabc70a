"""Preprocessing from image to encoder input, shared by training and captioning.

Scaling needs no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from captioner.data.images import open_image
from captioner.errors import CaptionerError

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_SIZE = 8192
"""Largest side of the encoder's input, in pixels: such an image takes 800 MB in float32."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Transform:
    """Converts an upright RGB image to the encoder's input.

    Attributes:
        size: Height and width of the input, in pixels.
        resize: ``squash`` scales both sides to ``size``, ignoring the aspect ratio; ``crop`` scales the shorter side
            to ``size`` and keeps the center.
        interpolation: The filter for scaling.
        mean: Mean of each channel, of values in [0, 1].
        std: Standard deviation of each channel, of values in [0, 1].
    """

    size: int = 224
    resize: Literal["squash", "crop"] = "squash"
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if not 1 <= self.size <= LARGEST_SIZE:
            raise CaptionerError(
                f"image size {self.size} is not a number of pixels; give one of at least 32, at most {LARGEST_SIZE}"
            )
        if not all(map(math.isfinite, self.mean)) or not all(0 < each < math.inf for each in self.std):
            raise CaptionerError(f"mean {self.mean} and deviation {self.std} are not color statistics; give ImageNet's")
        for name, value, known in (
            ("resize", self.resize, ("squash", "crop")),
            ("interpolation", self.interpolation, tuple(_FILTERS)),
        ):
            if value not in known:
                raise CaptionerError(f"{name} {value!r} is unknown; choose one of {', '.join(known)}")

    @property
    def enough(self) -> int:
        """Pixels per side that are worth decoding: twice the input's, since scaling averages finer detail."""
        return 2 * self.size

    def region(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of an image that the encoder sees.

        Args:
            width: Width of the upright image, in pixels.
            height: Its height, in pixels.

        Returns:
            Left, top, right and bottom edge in pixels.
        """
        if self.resize == "squash":
            return 0.0, 0.0, float(width), float(height)
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return left, top, left + side, top + side

    def scale(self, image: Image.Image) -> Image.Image:
        """Crop and scale an image to ``size`` × ``size`` pixels."""
        region = self.region(*image.size)
        return image.resize((self.size, self.size), _FILTERS[self.interpolation], box=region)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Subtracts the mean and divides by the standard deviation.

        Args:
            pixels: Values 0 to 255, shape (..., 3, size, size).

        Returns:
            The encoder's input, float32, same shape.
        """
        import torch

        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1) * 255
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1) * 255
        return (pixels - mean).div_(std)

    def __call__(self, image: Image.Image) -> Tensor:
        """Convert an upright RGB image to a float32 tensor of shape (3, size, size)."""
        return self.normalize(to_pixels(self.scale(image)))


def to_pixels(image: Image.Image) -> Tensor:
    """Convert an image to RGB values, uint8, shape (3, height, width)."""
    import torch

    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1)


def read_scaled(transform: Transform, path: Path) -> Image.Image:
    """Load an image for the encoder, decoded no larger than necessary.

    Raises:
        CaptionerError: It is not a readable image.
    """
    return transform.scale(open_image(path, transform.enough))
