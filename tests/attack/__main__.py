"""Runs every attack against a server of each backend, and prints what was tried and what held.

    python -m attack [--backend NAME]... [--kind KIND]...

Ends with 1 if anything did not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import logging
import platform
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field

from attack.bystander import bystander
from attack.case import Case, all_cases
from attack.target import BACKENDS, HEALTH, Target, opened
from criimage import __version__

CASE_SECONDS = 120.0


@dataclass(slots=True)
class Row:
    """What came of one kind on one backend."""

    tried: int = 0
    held: int = 0
    worst: float = 0.0
    faults: list[str] = field(default_factory=list)


async def attacked(target: Target, case: Case) -> str:
    """Run one attack; return what did not hold, or nothing."""
    try:
        async with asyncio.timeout(CASE_SECONDS):
            await case.run(target)
            assert target.server.process.process.poll() is None, "the server has ended"
            assert (await target.call(HEALTH)).status == 0, "health has no answer"
    except Exception as error:  # noqa: BLE001 - whatever it is, the table shows it
        return f"{type(error).__name__}: {error}"[:1500]
    return ""


async def _backend(name: str, cases: list[Case], rows: dict[tuple[str, str], Row]) -> None:
    async with opened(name) as target:
        with bystander(target.server.socket) as other:
            for case in cases:
                if case.backends and name not in case.backends:
                    continue
                row = rows[case.kind, name]
                begun = time.monotonic()
                fault = await attacked(target, case)
                worst, answered, failed = await asyncio.to_thread(other.seen)
                if not fault and (failed or not answered):
                    fault = f"another client: {answered} answers, {failed} failures"
                row.tried += 1
                row.held += not fault
                row.worst = max(row.worst, worst)
                row.faults += [f"{case.name}: {fault}"] if fault else []
                _say(
                    f"{name:18} {case.kind:12} {case.name:60} {'BROKE' if fault else 'held':6} {worst:.3f} s  "
                    f"{time.monotonic() - begun:.1f} s {fault}"
                )


def main() -> int:
    """Parse arguments, attack, print."""
    parser = argparse.ArgumentParser(prog="attack", description="Attacks servers of criimage.")
    parser.add_argument("--backend", action="append", choices=list(BACKENDS))
    parser.add_argument("--kind", action="append")
    chosen = parser.parse_args()
    # It warns of each byte that is sent into a connection that has been cut.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    cases = [case for case in all_cases() if not chosen.kind or case.kind in chosen.kind]
    rows: dict[tuple[str, str], Row] = defaultdict(Row)
    for name in chosen.backend or BACKENDS:
        asyncio.run(_backend(name, cases, rows))
    _print(rows)
    return int(any(row.faults for row in rows.values()))


def _print(rows: dict[tuple[str, str], Row]) -> None:
    _say(f"\n{dt.datetime.now(tz=dt.UTC).date()}, criimage {__version__}, Python {platform.python_version()}\n")
    _say("| kind | backend | tried | held | worst pause of another client |")
    _say("| --- | --- | --- | --- | --- |")
    for (kind, backend), row in rows.items():
        _say(f"| {kind} | {backend} | {row.tried} | {row.held} | {row.worst:.2f} s |")
    for (_, backend), row in rows.items():
        for fault in row.faults:
            _say(f"BROKE on {backend}: {fault}")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a program's output


if __name__ == "__main__":
    sys.exit(main())
