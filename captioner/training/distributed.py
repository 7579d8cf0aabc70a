"""Validation results, gathered over batches and processes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch.distributed


@dataclass(frozen=True)
class Validated:
    """Validation results so far.

    Attributes:
        generated: The generated caption of each dataset index.
        loss: Summed cross-entropy of the reference captions, in nats.
        words: Number of words in the loss.
    """

    generated: dict[int, str] = field(default_factory=dict)
    loss: float = 0.0
    words: int = 0

    def __add__(self, other: Validated) -> Validated:
        return Validated(self.generated | other.generated, self.loss + other.loss, self.words + other.words)

    def of_all_processes(self) -> Validated:
        """Gather the results of all processes, in each; a collective operation."""
        if not torch.distributed.is_initialized():
            return self
        parts: list[Validated] = [self] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, self)
        return sum(parts, Validated())
