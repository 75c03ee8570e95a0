"""The suite for backends finds backends that break the contract: the faults that the wire suite is tried with, too."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

import criimage.testing.conformance.checks
import criimage.testing.conformance.pulling
import criimage.testing.conformance.reading
from conformance.planted.fault import Fault, Sound, Unseen
from conformance.planted.table import FAULTS
from contract.test_memory import add_name
from criimage.errors import CriimageError
from criimage.testing.conformance import BackendConformance, Capability
from criimage.testing.scripted_stand import scripted_stand
from criimage.testing.stand import Stand

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from criimage.reference import ImageID
    from criimage.testing.scripted_stand import ScriptedStandRegistry

SEEN = {fault.name: (fault, fault.suite) for fault in FAULTS if isinstance(fault.suite, str)}
"""Faults that the suite can see, with the test that does."""


class _Everything(BackendConformance):
    capabilities = (~BackendConformance.capabilities | BackendConformance.capabilities) & ~Capability.NAME_FIRST


@pytest.fixture(scope="module")
def registry() -> Iterator[ScriptedStandRegistry]:
    """The registry that comes with the suite; each test has a backend of its own."""
    with scripted_stand() as running:
        yield running


def _stand(backend: Sound, registry: ScriptedStandRegistry, left: Sequence[str] = ()) -> Stand:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Sound]:
        yield backend

    @asynccontextmanager
    async def held(image: ImageID) -> AsyncIterator[None]:
        backend.in_use.add(image)
        yield
        backend.in_use.remove(image)

    async def leftovers() -> Sequence[str]:
        return left

    async def named(image: ImageID, name: str) -> None:
        add_name(backend, image, name)

    return Stand(opened, registry, held, leftovers, named)


async def _run(test: str, stand: Stand) -> None:
    """Run `test_name` or `test_name[first value of its parameters]`."""
    name, bracket, first = test.rstrip("]").partition("[")
    method = getattr(_Everything(), name)
    arguments: dict[str, Any] = {}
    for mark in getattr(method, "pytestmark", ()):
        if mark.name == "parametrize":
            names = (mark.args[0],) if isinstance(mark.args[0], str) else mark.args[0]
            rows = [row if isinstance(row, tuple) else (row,) for row in mark.args[1]]
            (chosen,) = [row for row in rows if row[0] == first]
            arguments = dict(zip(names, chosen, strict=True))
    assert bool(arguments) == bool(bracket), test
    await method(stand, **arguments)


def test_there_are_many_faults() -> None:
    """At least forty; one that no test can catch says why; between them they have most tests fail."""
    others = [fault.suite for fault in FAULTS if isinstance(fault.suite, Unseen)]

    assert len(SEEN) + len(others) == len(FAULTS)
    assert len(SEEN) >= 40
    assert all(one.why.endswith(".") for one in others)
    failing = {re.sub(r"\[.*", "", test) for _, test in SEEN.values()}
    every = {name for name in dir(BackendConformance) if name.startswith("test_")}
    assert every - failing == {
        "test_a_pulled_image_is_there",  # each other test begins so
        "test_a_store_outlives_the_backend",  # nothing in memory does
        "test_candidates_are_distinct",  # the fault of a full name's candidates is the same
        "test_every_call_goes_with_every_other",  # asks for what the others ask for, at once
    }


@pytest.mark.parametrize(("fault", "test"), SEEN.values(), ids=SEEN)
async def test_a_fault_is_found(
    fault: Fault, test: str, registry: ScriptedStandRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend with this one fault fails the test that is about it."""
    for module in (
        criimage.testing.conformance.checks,
        criimage.testing.conformance.pulling,
        criimage.testing.conformance.reading,
    ):
        # What hangs by a fault hangs for ever.
        monkeypatch.setattr(module, "PATIENCE", 1.0)
    if fault.patch is not None:
        fault.patch(monkeypatch)
    backend = fault.backend()

    with pytest.raises((AssertionError, CriimageError, TimeoutError, ValueError, pytest.fail.Exception)):
        await _run(test, _stand(backend, registry))

    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@pytest.mark.parametrize("test", sorted({test for _, test in SEEN.values()}))
async def test_without_a_fault_the_same_tests_pass(test: str, registry: ScriptedStandRegistry) -> None:
    """So it is the fault that is found, not the way in which it is looked for."""
    await _run(test, _stand(Sound(), registry))


async def test_what_is_left_behind_is_found(registry: ScriptedStandRegistry) -> None:
    """B41: after every test, whatever it was about."""
    with pytest.raises(AssertionError, match=r"left behind: .*a file"):
        await _Everything().test_a_store_that_works_has_no_problems(_stand(Sound(), registry, ["a file"]))
