"""Object hallucination over COCO's 80 categories.

CHAIR (Rohrbach et al., EMNLP 2018, Object Hallucination in Image Captioning): of the objects that captions name, the
share that neither a reference nor a box of their image has. An object counts once per caption, as in the paper's
equation. In addition, recall of the objects that references agree on, which short captions would lower.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from captioner.metrics.bootstrap import SAMPLES, Interval, bootstrap_weights, percentile_interval
from captioner.metrics.grounding import categories_in
from captioner.metrics.ngrams import Floats
from captioner.text.tokenizer import tokenize

ImageId = TypeVar("ImageId", bound=Hashable)

_AGREEING = 2
"""Number of references that must name an object for it to count as agreed; a single reference is enough if it is the
only one."""

NAMES = ("CHAIRi", "CHAIRs", "recall", "precision")


@dataclass(frozen=True)
class ImageNaming:
    """The categories of one image.

    Attributes:
        named: Categories that the caption names.
        present: Categories that a reference or a box has.
        agreed: Categories that at least two references name, or the only one.
    """

    named: frozenset[str]
    present: frozenset[str]
    agreed: frozenset[str]


@dataclass(frozen=True)
class Naming:
    """Objects named by the captions of a set of images. Shares are in [0, 1], and NaN if nothing is counted.

    Attributes:
        images: One entry for each image.
    """

    images: tuple[ImageNaming, ...]

    def corpus(self) -> dict[str, float]:
        """The shares over all images, by the names of `NAMES`.

        ``CHAIRi``: share of named objects that are not present. ``CHAIRs``: share of captions that name such an object.
        ``recall``: share of agreed objects that are named. ``precision``: share of named objects that are agreed on; an
        object named by only one of several references is neither correct nor a hallucination.
        """
        shares = _shares(self._counts().sum(0, keepdims=True))
        return {name: float(share) for name, share in zip(NAMES, shares[:, 0], strict=True)}

    def intervals(self, samples: int = SAMPLES, seed: int = 0) -> dict[str, Interval]:
        """Bootstrap 95 % interval of each share, over images.

        Samples in which nothing is counted are ignored; an interval is NaN if all are.

        Args:
            samples: Number of bootstrap samples, at least 1.
            seed: Seed of the samples.
        """
        drawn = bootstrap_weights(len(self.images), samples, seed) @ self._counts()
        return {name: _interval(shares) for name, shares in zip(NAMES, _shares(drawn), strict=True)}

    def categories(self) -> dict[str, dict[str, int]]:
        """Count by category how often it is named, hallucinated, agreed on, and both named and agreed on."""
        named = Counter(category for image in self.images for category in image.named)
        wrong = Counter(category for image in self.images for category in image.named - image.present)
        agreed = Counter(category for image in self.images for category in image.agreed)
        found = Counter(category for image in self.images for category in image.named & image.agreed)
        return {
            category: {
                "named": named[category],
                "hallucinated": wrong[category],
                "agreed": agreed[category],
                "found": found[category],
            }
            for category in sorted(named.keys() | agreed.keys())
        }

    def _counts(self) -> Floats:
        """Named, hallucinated, captions, captions that hallucinate, agreed and found, shape (images, 6)."""
        return np.array(
            [
                (
                    len(image.named),
                    len(image.named - image.present),
                    1,
                    bool(image.named - image.present),
                    len(image.agreed),
                    len(image.named & image.agreed),
                )
                for image in self.images
            ],
            dtype=float,
        ).reshape(-1, 6)


def measure_naming(
    candidates: Mapping[ImageId, str],
    references: Mapping[ImageId, Sequence[str]],
    boxes: Mapping[ImageId, Collection[str]] | None = None,
) -> Naming:
    """Compare objects named by captions with those in references and boxes.

    Args:
        candidates: A caption for each image.
        references: The references of each of these images.
        boxes: The categories of an image's boxes, if it was annotated.
    """
    found = []
    for image, caption in candidates.items():
        by_reference = Counter(category for text in references[image] for category in categories_named(text))
        needed = min(_AGREEING, len(references[image]))
        agreed = frozenset(category for category, count in by_reference.items() if count >= needed)
        present = frozenset(by_reference) | frozenset((boxes or {}).get(image, ()))
        found.append(ImageNaming(categories_named(caption), present, agreed))
    return Naming(tuple(found))


def categories_named(caption: str) -> frozenset[str]:
    """The categories of COCO that a caption names."""
    return categories_in(tokenize([caption])[0])


def _interval(shares: Floats) -> Interval:
    """The interval of the shares that are not NaN."""
    counted = shares[~np.isnan(shares)]
    return percentile_interval(counted) if len(counted) else Interval(math.nan, math.nan)


def _shares(counts: Floats) -> Floats:
    """The shares of `NAMES`, from sums of `Naming._counts`, shape (4, sums)."""
    named, wrong, captions, wrong_captions, agreed, found = counts.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([wrong / named, wrong_captions / captions, found / agreed, found / named])
