"""Claim: the C library keeps memory in a few places only, however many threads have asked for some."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import ctypes, sys, threading
from criimage.heap import keep_level

if "level" in sys.argv:
    keep_level()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
together = threading.Barrier(20)

def ask():
    kept = [bytearray(1000) for _ in range(100)]
    together.wait()
    del kept

threads = [threading.Thread(target=ask) for _ in range(20)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
out = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, out)
libc.fclose(out)
"""


def _arenas(*arguments: str) -> int:
    command = [sys.executable, "-c", _PROGRAM, *arguments]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return told.stdout.count("<heap nr=")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's own")
def test_twenty_threads_share_two_arenas() -> None:
    """And without it each gets one, up to eight a core: what they have freed was never given back (issue 8)."""
    assert _arenas("level") <= 2
    assert _arenas() > 2


def test_garbage_is_looked_for_again_after_the_start() -> None:
    """A service whose collector stayed paused would keep every circle of objects that it ever made."""
    program = (
        "import gc\n"
        "from criimage.heap import pause_collector, settle\n"
        "pause_collector()\n"
        "paused = not gc.isenabled()\n"
        "settle()\n"
        "print(paused, gc.isenabled())\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.split() == ["True", "True"]
