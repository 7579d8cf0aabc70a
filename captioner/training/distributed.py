"""What validation finds out, batch by batch and in several processes, put together."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch.distributed


@dataclass(frozen=True)
class Validated:
    """What validation has seen so far.

    Attributes:
        generated: The caption written for each place in the dataset.
        loss: Cross-entropy of the reference captions' words, summed, in nats.
        words: How many words.
    """

    generated: dict[int, str] = field(default_factory=dict)
    loss: float = 0.0
    words: int = 0

    def __add__(self, other: Validated) -> Validated:
        return Validated(self.generated | other.generated, self.loss + other.loss, self.words + other.words)

    def of_all_processes(self) -> Validated:
        """What all processes of the run have seen, the same in each; all have to ask."""
        if not torch.distributed.is_initialized():
            return self
        parts: list[Validated] = [self] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, self)
        return sum(parts, Validated())
