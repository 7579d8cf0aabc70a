"""Keeping freed memory for the next step of training, or the next batch of photographs."""

from __future__ import annotations

import ctypes
import sys

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
