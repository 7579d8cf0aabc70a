"""Chance that can be repeated: every epoch has a seed of its own, whatever ran before it."""

from __future__ import annotations

import os

_RUN_SEED = "PL_GLOBAL_SEED"  # where Lightning's seed_everything leaves the run's seed
_EPOCHS = 1_000_003  # more than any run has, and prime


def epoch_seed(epoch: int) -> int:
    """The seed of an epoch of this run, so that a resumed run draws what the interrupted one would have drawn."""
    return int(os.environ.get(_RUN_SEED, 0)) * _EPOCHS + epoch
