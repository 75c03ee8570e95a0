"""Each behaviour that is named by a planted fault catches it; without a fault nothing fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.planted.fault import Fault, Sound, Unseen
from conformance.planted.table import FAULTS
from criimage.conformance.behaviour import selected
from criimage.conformance.behaviours import cancels, concurrency
from criimage.conformance.outcome import Outcome, Summary
from criimage.conformance.run import Plan, run
from parts.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

WHOLE = (("S12", "E2", "M1"), ("C4",), ("R6",))
"""Faults that the whole suite is tried with, those that do not get into each other's way at once."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend in memory is at a layer in no time; where it is not, there is the second deadline."""
    monkeypatch.setattr(cancels, "_ENOUGH", (0.5, cancels._ENOUGH[-1]))


async def judged(folder: Path, backend: Sound, only: Iterable[str] = ()) -> Summary:
    """Run the command's suite against the server with this backend."""
    async with serving(folder, backend) as server:
        plan = Plan(server.path, f"unix://{server.path}", selected(only, ()))
        return await run(plan)


def failed(summary: Summary) -> set[str]:
    """The numbers of what failed."""
    return {one.behaviour.number for one in summary.results if one.outcome is Outcome.FAILED}


async def test_a_sound_service_passes_everything(tmp_path: Path) -> None:
    """All behaviours pass on the backend in memory but those that need a restart; nothing is left in its store."""
    backend = Sound()

    summary = await judged(tmp_path, backend)

    assert [(one.behaviour.number, one.text) for one in summary.results if one.outcome is not Outcome.PASSED] == [
        (number, "there is no command that restarts the service: --restart") for number in ("X1", "X2", "X3")
    ]
    assert (summary.left, summary.exit_code, await backend.images()) == ((), 0, ())


ON_THE_WIRE = {fault.wire: fault for fault in FAULTS if isinstance(fault.wire, str)}
"""By the number of the behaviour."""


def test_there_are_many_faults() -> None:
    """At least forty here, each with a number of its own; one that no behaviour can catch says why."""
    others = [fault.wire for fault in FAULTS if isinstance(fault.wire, Unseen)]

    assert len(ON_THE_WIRE) + len(others) == len(FAULTS)
    assert len(ON_THE_WIRE) >= 40
    assert all(one.why.endswith(".") for one in others)


@pytest.mark.parametrize(("number", "fault"), ON_THE_WIRE.items(), ids=lambda value: getattr(value, "name", None))
async def test_its_behaviour_catches_a_fault(
    number: str, fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The behaviour that the fault is named by fails, and it alone is tried."""
    # What a fault keeps going goes on for ever.
    for module, name in ((cancels, "_START_SECONDS"), (cancels, "_STOP_SECONDS"), (concurrency, "_PATIENCE")):
        monkeypatch.setattr(module, name, 2.0)
    if fault.patch is not None:
        fault.patch(monkeypatch)

    summary = await judged(tmp_path, fault.backend(), [number])

    assert failed(summary) == {number}, fault.sentence
    assert summary.exit_code == 1


@pytest.mark.parametrize("numbers", WHOLE, ids=" ".join)
async def test_the_whole_suite_catches_a_fault(
    numbers: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a run of everything the behaviour fails too, and the suite itself keeps its head."""
    faulty, *others = (ON_THE_WIRE[number].backend for number in numbers)
    assert set(others) <= {Sound}  # only one can be the server's
    for number in numbers:
        patch = ON_THE_WIRE[number].patch
        if patch is not None:
            patch(monkeypatch)

    summary = await judged(tmp_path, faulty())

    assert {*numbers} <= failed(summary)
    assert summary.count(Outcome.SUITE_ERROR) == 0
