"""The run as tables in Markdown, for the terminal and for docs/long-runs.md."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from soak.run import Run

__all__ = ["markdown", "row"]

_UNITS = {"memory": " MiB", "median": " x", "tail": " x"}
_NAMES = {"median": "p50 over a bare server's", "tail": "p99 over a bare server's"}
_OUTCOMES = ("ok", "in vain", "in a restart", "unexpected")


def markdown(run: Run) -> str:
    """What was held at the beginning and the end of each server's last life, and what was done."""
    return "\n".join([*_held(run), "", *_done(run)])


def _held(run: Run) -> Iterator[str]:
    yield "| server | measure | first third of its last life | last third | largest | may grow by | |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for one in run.verdicts():
        unit = _UNITS.get(one.measure, "")
        numbers = f"{one.before:.1f}{unit} | {one.after:.1f}{unit} | {one.most:.1f}{unit} | {one.allowed:.1f}{unit}"
        name, verdict = _NAMES.get(one.measure, one.measure), "flat" if one.flat else "GREW"
        yield f"| {one.backend} | {name} | {numbers} | {verdict} |"


def _done(run: Run) -> Iterator[str]:
    yield "| server | operation | ok | failed as it must | failed in a restart | unexpected |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for backend, traffic in run.traffic.items():
        for operation in sorted({operation for operation, _ in traffic.tally}):
            counts = " | ".join(f"{traffic.tally[operation, outcome]:,}" for outcome in _OUTCOMES)
            yield f"| {backend} | {operation} | {counts} |"


def row(run: Run, day: str, versions: str) -> str:
    """The line for docs/long-runs.md."""
    counts: Counter[str] = Counter()
    for traffic in run.traffic.values():
        for (_, outcome), count in traffic.tally.items():
            counts[outcome] += count
    restarts = Counter("criimage" if part in run.traffic else part for _, part in run.restarts)
    held = "; ".join(
        f"{backend}: "
        + ", ".join(
            f"{_NAMES.get(one.measure, one.measure)} {one.before:.1f} → {one.after:.1f}"
            for one in run.verdicts()
            if one.backend == backend
        )
        for backend in run.traffic
    )
    done = ", ".join(f"{counts[outcome]:,} {outcome}" for outcome in _OUTCOMES)
    again = ", ".join(f"{part} {count} times" for part, count in sorted(restarts.items()))
    verdict = "flat" if not run.complaints() else "NOT FLAT"
    length = f"`make soak`, {run.seconds / 60:.0f} minutes"
    result = f"{verdict}; calls: {done}; restarted: {again}; {held}"
    return f"| {day} | {length} | {versions} | {result} |"
