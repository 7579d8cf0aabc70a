"""Settings of the C libraries under torch: how OpenMP's threads wait, and how malloc keeps freed memory."""

from __future__ import annotations

import ctypes
import os
import sys

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


_MIB = 1 << 20
# From glibc's malloc.h: option number and value.
_OPTIONS = {
    -3: 32 * _MIB,  # M_MMAP_THRESHOLD, at most 32 MiB: larger blocks are mapped and unmapped each time
    -1: 2047 * _MIB,  # M_TRIM_THRESHOLD: free memory at the top of the heap that is kept
    -2: 256 * _MIB,  # M_TOP_PAD: how much more is asked for at a time
}


def keep_freed_memory() -> None:
    """Tells glibc's malloc not to give freed blocks back to the system.

    A training step, and a CNN in use, frees and asks for the same large blocks again and again; with malloc's defaults
    the kernel hands out zeroed pages each time, which takes up to half of the time on a CPU. Does nothing on other C
    libraries.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    for option, value in _OPTIONS.items():
        mallopt(option, value)
