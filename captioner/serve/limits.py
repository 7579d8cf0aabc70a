"""What a request may ask of the server."""

from __future__ import annotations

import math
from dataclasses import dataclass

from captioner.errors import CaptionerError

LARGEST_OPTIONS = {"beam_size": 20, "num_captions": 20, "max_words": 100, "required_words": 8}
"""Largest value, or longest list, of the decoding options that decide how long a caption takes."""


@dataclass(frozen=True)
class Limits:
    """What a request may ask of the server, and what all of them may together.

    Attributes:
        body_bytes: Largest body of a request.
        total_bytes: Bodies that are held in memory at one time, all requests together.
        pictures: Pictures of one request.
        queue: Pictures that wait or are being captioned, all requests together.
        seconds: Longest time for a body to arrive, and again for its captions to be made.
        batch: Pictures that the network captions together.
        window: Seconds that the network waits for further pictures before it begins with those that it has.

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
