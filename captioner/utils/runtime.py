"""Settings of the C libraries that torch uses: waiting of OpenMP threads, reuse of freed memory, kept kernels."""

from __future__ import annotations

import ctypes
import os
import sys

SPINS = 20_000
"""Iterations that a waiting thread spins before it sleeps: a tenth of a millisecond. OpenMP's default is 300,000."""


def wait_briefly() -> None:
    """Make the waiting threads of GNU OpenMP, which torch uses on Linux, go to sleep soon.

    By default they spin for milliseconds, which delays the thread that they wait for if both share a core: beside
    another busy program, captioning took 2.5 times as long (docs/performance.md). OpenMP reads the setting when torch
    is loaded, so call this before. ``OMP_WAIT_POLICY`` and ``GOMP_SPINCOUNT`` in the environment take precedence.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


KERNELS = 256
"""Compiled kernels that oneDNN keeps in a server; its default is 1,024."""


def keep_few_kernels() -> None:
    """Make oneDNN, which torch uses on a CPU, keep fewer of the kernels that it compiles for each shape of its inputs.

    Batches of a server differ in size, and the hypotheses of a beam search in number, so that the memory of a server
    would grow for some thousand requests, by 0.3 GB; compiling again what was dropped takes 5 % of the time. oneDNN
    reads the setting when torch is loaded, so call this before. ``ONEDNN_PRIMITIVE_CACHE_CAPACITY`` in the environment
    takes precedence.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))


_MIB = 1 << 20
# From glibc's malloc.h: option number and value.
_OPTIONS = {
    -3: 32 * _MIB,  # M_MMAP_THRESHOLD, at most 32 MiB: larger blocks are mapped and unmapped each time
    -1: 2047 * _MIB,  # M_TRIM_THRESHOLD: free memory at the top of the heap that is kept
    -2: 256 * _MIB,  # M_TOP_PAD: how much more is asked for at a time
}


def keep_freed_memory() -> None:
    """Make glibc's malloc keep freed blocks instead of returning them to the system.

    Training steps and CNNs free and allocate the same large blocks again and again; by default the kernel then provides
    zeroed pages each time, which takes up to half of the time on a CPU. No effect with other C libraries.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    for option, value in _OPTIONS.items():
        mallopt(option, value)
