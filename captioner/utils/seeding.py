"""Seeds of epochs and batches that depend on nothing else, so that resumed runs are reproducible."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from captioner.errors import CaptionerError

_RUN_SEED = "PL_GLOBAL_SEED"  # the environment variable that Lightning's seed_everything sets
_EPOCHS = 1_000_003  # a prime that is larger than any number of epochs


def run_seed() -> int:
    """Seed of this run."""
    return int(os.environ.get(_RUN_SEED, 0))


def refuse_another_seed(state: Mapping[str, Any]) -> None:
    """Refuse to resume a run with another seed, whose images would come in another order.

    Args:
        state: State of the data module in the checkpoint.

    Raises:
        CaptionerError: The checkpoint's run had another seed.
    """
    before = state.get("seed", run_seed())
    if before != run_seed():
        raise CaptionerError(
            f"the checkpoint to resume from was trained with seed_everything {before}, not {run_seed()}; resume with it"
        )


def epoch_seed(epoch: int) -> int:
    """Seed of an epoch of this run, so that a resumed run continues exactly like an uninterrupted one."""
    return run_seed() * _EPOCHS + epoch


def batch_seed(epoch: int, batch: int) -> int:
    """Seed of a batch of an epoch, so that a run can also be resumed within an epoch."""
    digest = hashlib.sha256(f"{run_seed()} {epoch} {batch}".encode()).digest()
    return int.from_bytes(digest[:7], "little")
