"""How torch's threads wait for one another when other programs want the cores too."""

from __future__ import annotations

import os

SPINS = 20_000
"""Rounds that a waiting thread spins before it sleeps, a tenth of a millisecond; OpenMP's own are 300,000."""


def wait_briefly() -> None:
    """Tells GNU's OpenMP, which torch computes with on Linux, to let a thread that waits go to sleep soon.

    By default it spins for milliseconds, which holds up the thread that it waits for where a core serves both: with
    another program at work, captions came 2.5 times as slowly (docs/performance.md). Read when torch is loaded, so it
    comes before. Who has set ``OMP_WAIT_POLICY`` or ``GOMP_SPINCOUNT`` has chosen already.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
