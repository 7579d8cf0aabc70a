"""Chance that can be repeated: every epoch has a seed of its own, whatever ran before it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from captioner.errors import CaptionerError

_RUN_SEED = "PL_GLOBAL_SEED"  # where Lightning's seed_everything leaves the run's seed
_EPOCHS = 1_000_003  # more than any run has, and prime


def run_seed() -> int:
    """The seed of this run."""
    return int(os.environ.get(_RUN_SEED, 0))


def refuse_another_seed(state: Mapping[str, Any]) -> None:
    """Refuses to resume a run whose images would come in another order, some again and some never.

    Args:
        state: What the run's data left in the checkpoint.

    Raises:
        CaptionerError: The run had another seed.
    """
    before = state.get("seed", run_seed())
    if before != run_seed():
        raise CaptionerError(
            f"the checkpoint to resume from was trained with seed_everything {before}, not {run_seed()}; resume with it"
        )


def epoch_seed(epoch: int) -> int:
    """The seed of an epoch of this run, so that a resumed run draws what the interrupted one would have drawn."""
    return run_seed() * _EPOCHS + epoch


def batch_seed(epoch: int, batch: int) -> int:
    """The seed of a batch of an epoch, so that a run can also be resumed within an epoch."""
    digest = hashlib.sha256(f"{run_seed()} {epoch} {batch}".encode()).digest()
    return int.from_bytes(digest[:7], "little")
