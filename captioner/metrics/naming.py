"""Does a caption name what is there? Object hallucination over COCO's 80 categories.

CHAIR (Rohrbach et al., EMNLP 2018, Object Hallucination in Image Captioning): of the things that captions name, the
share that neither a reference nor a box of their image has. A thing counts once a caption, as in the paper's equation,
however often it is mentioned. Beside it, what a captioner that says little would hide: how many of the things that
people agree on are named.
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
"""References that have to name a thing for it to be one that a caption should name; of a single reference, that one."""

NAMES = ("CHAIRi", "CHAIRs", "recall", "precision")


@dataclass(frozen=True)
class ImageNaming:
    """The categories of one image.

    Attributes:
        named: Those that the caption names.
        present: Those that a reference or a box has.
        agreed: Those that at least two references name, or the only one.
    """

    named: frozenset[str]
    present: frozenset[str]
    agreed: frozenset[str]


@dataclass(frozen=True)
class Naming:
    """What the captions of a set of images name. Shares are in [0, 1], and NaN where nothing is counted.

    Attributes:
        images: One entry for each image.
    """

    images: tuple[ImageNaming, ...]

    def corpus(self) -> dict[str, float]:
        """The shares over all images, by the names of `NAMES`.

        ``CHAIRi``: of the named things, those that are not present. ``CHAIRs``: of the captions, those that name such a
        thing. ``recall``: of the agreed things, those that are named. ``precision``: of the named things, those that
        are agreed on; a thing that a single reference of several names is neither right nor a hallucination.
        """
        shares = _shares(self._counts().sum(0, keepdims=True))
        return {name: float(share) for name, share in zip(NAMES, shares[:, 0], strict=True)}

    def intervals(self, samples: int = SAMPLES, seed: int = 0) -> dict[str, Interval]:
        """The 95 % interval of each share, over samples of as many images, drawn with replacement.

        Samples in which nothing is counted are left out; an interval is NaN where that is so of all.

        Args:
            samples: How many samples, at least 1.
            seed: The same seed gives the same intervals.
        """
        drawn = bootstrap_weights(len(self.images), samples, seed) @ self._counts()
        return {name: _interval(shares) for name, shares in zip(NAMES, _shares(drawn), strict=True)}

    def categories(self) -> dict[str, dict[str, int]]:
        """By category, how often it is named, hallucinated, agreed on, and both named and agreed on."""
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
    """Compare what captions name with what references name and boxes hold.

    Args:
        candidates: A caption for each image.
        references: The references of each of these images.
        boxes: The categories that an image has boxes of, where it has been searched for them.
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
    """The interval of the shares that there are."""
    counted = shares[~np.isnan(shares)]
    return percentile_interval(counted) if len(counted) else Interval(math.nan, math.nan)


def _shares(counts: Floats) -> Floats:
    """The shares of `NAMES`, from sums of `Naming._counts`, shape (4, sums)."""
    named, wrong, captions, wrong_captions, agreed, found = counts.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([wrong / named, wrong_captions / captions, found / agreed, found / named])
