"""Memory that was used once is given back, and what stays for good is not looked through again and again."""

from __future__ import annotations

import contextlib
import ctypes
import gc

__all__ = ["keep_level", "pause_collector", "settle"]

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8

_ARENAS = 2
"""Threads here wait for files, not for memory: a lock more between them makes no difference."""
_LARGE = 2**20
"""Bytes from which on memory is the kernel's own business; what one read of a socket takes is a quarter of it."""


def keep_level() -> None:
    """Have the C library keep little of what is given back; to be called before there are threads.

    glibc has an arena for each of up to eight threads a core, and a threshold that rises with the largest piece that
    was ever freed: what many threads have read once stays in pieces that fit nobody else. In 300,000 calls and 3,000
    pulls that came to 9 MiB, and went on. Does nothing with another C library.
    """
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _LARGE)


def pause_collector() -> None:
    """Look for no garbage until `settle`: what a start makes stays, and looking for it takes a tenth of the start."""
    gc.disable()


def settle() -> None:
    """Collect what the start has left, let the collector pass over the rest from now on, and return what is free.

    Takes some ten milliseconds. With a C library that keeps no free memory, such as musl, there is nothing to return.
    """
    gc.collect()
    # Modules, classes and settings live as long as the process: to look through them takes as long as a hundred calls.
    gc.freeze()
    gc.enable()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
