"""What processes take, as the kernel tells it."""

from __future__ import annotations

from pathlib import Path

_KIBIBYTES = 1024


def resident(process: int) -> float:
    """The resident memory of a process alone, in MiB."""
    for line in Path(f"/proc/{process}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / _KIBIBYTES
    raise RuntimeError(f"process {process} has ended")


def descendants(process: int) -> list[int]:
    """The processes that it and its children have started and that still run."""
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def load() -> list[float]:
    """The machine's load averages over 1, 5 and 15 minutes."""
    return [float(one) for one in Path("/proc/loadavg").read_text().split()[:3]]
