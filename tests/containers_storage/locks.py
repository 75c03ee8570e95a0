"""The locks of a store, as other processes have and see them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parts.store import Store

# Prints whether a writer has this lock, at once and without waiting, as often as it is asked.
_ASK = """
import fcntl, sys
for _ in sys.stdin:
    with open(sys.argv[1], "r+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            print("free", flush=True)
        except OSError:
            print("held", flush=True)
"""


@contextlib.contextmanager
def asker(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """Runs what tells whether a lock is held."""
    command = [sys.executable, "-c", _ASK, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.communicate()


def held(other: subprocess.Popen[str]) -> bool:
    """Whether a writer has the lock, by a process of its own: locks of this one are none to itself."""
    assert other.stdin is not None
    assert other.stdout is not None
    print(file=other.stdin, flush=True)
    return other.stdout.readline() == "held\n"


def locks(local: Store, process: int = 0) -> list[str]:
    """The store's locks that a process has or waits for, as the kernel lists them; those of all processes if 0."""
    inodes = {str(file.stat().st_ino) for file in local.root.rglob("*.lock")}
    found = []
    for line in Path("/proc/locks").read_text().splitlines():
        fields = [field for field in line.split() if field != "->"]
        if fields[5].rpartition(":")[2] in inodes and fields[4] == str(process or fields[4]):
            found.append(line)
    return found


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Holds a tool's lock file as a writer does, from a process of its own (L5)."""
    script = "import fcntl,sys; f=open(sys.argv[1],'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    command = [sys.executable, "-c", script, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.communicate(b"\n")
