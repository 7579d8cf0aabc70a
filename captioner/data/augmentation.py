"""Random augmentation of training images, against overfitting of a trained CNN."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image, ImageEnhance

from captioner.errors import CaptionerError

_GRAY = (128, 128, 128)


@dataclass(frozen=True)
class Augmentation:
    """Augmentation options and operations.

    Attributes:
        flip: Whether to mirror an image with probability 0.5. Unsuitable for captions that mention left or right.
        crop: Least share of each side that a random crop keeps, in (0, 1]; 1 crops nothing. The sides are drawn
            independently, so that aspect ratios vary too.
        jitter: Relative range of brightness, contrast and saturation, in [0, 1). Hues stay unchanged: captions name
            colors.
        erase: Largest share of each side that a gray rectangle covers, in [0, 1) (cutout; DeVries & Taylor, 2017).
    """

    flip: bool = False
    crop: float = 1.0
    jitter: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1:
            raise CaptionerError(f"data.crop is {self.crop}; it must be more than 0 and at most 1")
        for name, share in (("jitter", self.jitter), ("erase", self.erase)):
            if not 0 <= share < 1:
                raise CaptionerError(f"data.{name} is {share}; it must be at least 0 and less than 1")

    @property
    def needs_pixels(self) -> bool:
        """Whether any augmentation besides mirroring is on, which rules out cached features."""
        return self.crop < 1 or self.jitter > 0 or self.erase > 0

    def draw_flip(self, generator: torch.Generator) -> bool:
        """Draw whether to mirror an image."""
        return self.flip and bool(torch.rand((), generator=generator) < 0.5)

    def cut(self, image: Image.Image, generator: torch.Generator) -> Image.Image:
        """Crop an image at random, before it is scaled."""
        if self.crop == 1:
            return image
        kept = 1 - (1 - self.crop) * torch.rand(2, generator=generator)
        return image.crop(_box(image, kept, generator))

    def disturb(self, image: Image.Image, generator: torch.Generator) -> Image.Image:
        """Vary brightness, contrast and saturation of a scaled image, and cover a random rectangle."""
        if self.jitter:
            factors = 1 + self.jitter * (2 * torch.rand(3, generator=generator) - 1)
            for enhance, factor in zip(
                (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), factors.tolist(), strict=True
            ):
                image = enhance(image).enhance(factor)
        if self.erase:
            box = _box(image, self.erase * torch.rand(2, generator=generator), generator)
            image = image.copy()
            image.paste(_GRAY, box)
        return image


def _box(image: Image.Image, shares: torch.Tensor, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Place a rectangle with these shares of width and height at random; returns left, top, right and bottom."""
    (across, down), (x, y) = shares.tolist(), torch.rand(2, generator=generator).tolist()
    width, height = max(1, round(image.width * across)), max(1, round(image.height * down))
    left, top = round((image.width - width) * x), round((image.height - height) * y)
    return left, top, left + width, top + height
