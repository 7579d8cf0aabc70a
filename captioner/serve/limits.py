"""Limits of requests."""

from __future__ import annotations

import math
from dataclasses import dataclass

from captioner.errors import CaptionerError

LARGEST_OPTIONS = {"beam_size": 20, "num_captions": 20, "max_words": 100, "required_words": 8}
"""Maximum value, or list length, of decoding options that affect the time per caption."""


@dataclass(frozen=True)
class Limits:
    """Limits of single requests, and of all together.

    Attributes:
        body_bytes: Maximum size of a request's body.
        total_bytes: Maximum total size of bodies in memory.
        pictures: Maximum number of images per request.
        queue: Maximum number of images that are waiting or being captioned.
        seconds: Maximum time for receiving a body, and again for captioning.
        batch: Maximum batch size.
        window: Seconds to wait for further images before a batch starts.

    Raises:
        CaptionerError: A limit is not positive.
    """

    body_bytes: int = 64 * 2**20
    total_bytes: int = 256 * 2**20
    pictures: int = 64
    queue: int = 512
    seconds: float = 60.0
    batch: int = 128
    window: float = 0.003

    def __post_init__(self) -> None:
        for name in ("body_bytes", "total_bytes", "pictures", "queue", "seconds", "batch"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise CaptionerError(f"the limit of {name.replace('_', ' ')} is {value}; it must be positive")
        if not 0 <= self.window <= 1:
            raise CaptionerError(f"the window is {self.window} s; it must be from 0 to 1")
