"""Removals have a limit, are shared, and their callers hear the truth (issue: no wait without an end)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import structlog

from criimage import errors
from criimage.removals import LOOK_SECONDS, STOP_SECONDS
from criimage.work import Work
from pulls.clock import on_a_clock, settle
from pulls.removing import NAME, OTHER, REMOTE, At, SlowBackend, failure, now, setting

if TYPE_CHECKING:
    from criimage.reference import Lookup


@on_a_clock
async def test_one_that_takes_too_long_is_stopped_and_told() -> None:
    """At `remove_timeout` its work is cancelled; the text has what it waited for, and that the image is there."""
    async with setting() as at:
        began = now()
        text = await failure(await at.call(), errors.RemovalTimeout)
        assert now() - began == pytest.approx(100)
        waited = "removal cut off: waited for the store's lock, not complete within 100s"
        assert text == f"{waited}: {NAME}; the image is still there"
        await settle()
        assert at.removals.running() == ()
        assert (at.ended, at.most) == (["removal_timeout"], 1)


class SilentBackend(SlowBackend):
    """Does not say what it waits for."""

    async def remove(self, lookup: Lookup) -> None:
        """Waits."""
        self.begun += 1
        await self.go.wait()


@on_a_clock
async def test_what_a_backend_does_not_tell_is_the_store() -> None:
    """First it is looked for, then removed: an operator can tell which of them hangs."""
    async with Work() as work:
        at = At(SilentBackend(), work)
        await at.pull(NAME)
        task = await at.call()
        (seen,) = at.removals.running()
        assert seen.waiting_for == "the store to remove the image"
        at.backend.go.set()
        await task


@on_a_clock
async def test_one_that_has_not_stopped_is_listed_and_holds_up_its_equals() -> None:
    """Its callers are answered all the same; an equal removal begins only when nothing of it runs any more."""
    async with setting() as at:
        at.backend.may_stop.clear()
        began = now()
        text = await failure(await at.call(), errors.RemovalTimeout)
        assert now() - began == pytest.approx(100 + STOP_SECONDS)
        assert text.endswith("; it has not stopped yet")
        (view,) = at.removals.running()
        assert (view.id, view.image, view.image_id, view.stopping, view.waiters) == ("1", NAME, str(REMOTE.id), True, 0)
        again = await at.call()
        await asyncio.sleep(50)
        assert at.backend.begun == 1
        at.backend.may_stop.set()
        await settle()
        assert at.backend.begun == 2
        at.backend.go.set()
        await again
        assert await at.backend.images() == ()


def test_what_one_that_stops_at_last_has_left_is_logged() -> None:
    """Its callers have long been answered: the log has what became of the image, which is looked at again."""

    @on_a_clock
    async def run() -> None:
        async with setting() as at:
            at.backend.may_stop.clear()
            at.backend.on_cancel = at.backend.lose
            await failure(await at.call(), errors.RemovalTimeout)
            at.backend.may_stop.set()
            await settle()
            assert at.removals.running() == ()

    with structlog.testing.capture_logs() as events:
        run()
    (stopped,) = (event for event in events if event["event"] == "removal has stopped at last")
    assert (stopped["image"], stopped["state"]) == (NAME, "the image is gone")


@on_a_clock
async def test_one_that_is_over_leaves_no_task() -> None:
    """Neither one that succeeds nor one that is cut off: what waits for the operator's word ends with it."""
    async with setting() as at:
        before = asyncio.all_tasks()
        at.backend.go.set()
        await (await at.call())
        at.backend.go.clear()
        await at.pull(NAME)
        await failure(await at.call(), errors.RemovalTimeout)
        await settle()
        assert asyncio.all_tasks() == before


@on_a_clock
async def test_one_that_never_stops() -> None:
    """An equal removal waits for it no longer than for itself."""
    async with setting() as at:
        at.backend.may_stop.clear()
        await failure(await at.call(), errors.RemovalTimeout)
        began = now()
        text = await failure(await at.call(), errors.RemovalTimeout)
        assert now() - began == pytest.approx(100)
        assert text.endswith("; it still goes on")
        assert at.backend.begun == 1


@on_a_clock
async def test_what_has_become_of_the_image_is_told() -> None:
    """Gone is success; names that it lost are named, with the ID it goes by; what cannot be seen is said to be so."""
    async with setting() as at:
        stored = at.backend._stored[REMOTE.id]
        lose = {reference for reference in stored.tags if str(reference) == NAME}
        at.backend.on_cancel = lambda: stored.tags.difference_update(lose)
        text = await failure(await at.call(), errors.RemovalTimeout)
        assert text.endswith(f"; the image is still there without {NAME}: remove it by its ID {REMOTE.id}")
        at.backend.on_cancel = at.backend.lose
        await (await at.call(OTHER))
    async with setting() as at:
        task = await at.call()
        at.backend.look_hangs = True
        began = now()
        text = await failure(task, errors.RemovalTimeout)
        assert text.endswith("; whether the image is still there could not be seen")
        assert now() - began == pytest.approx(100 + LOOK_SECONDS)


@on_a_clock
async def test_a_store_that_does_not_even_find_the_image() -> None:
    """The limit holds for the look before as well, and nothing had been touched."""
    async with setting() as at:
        at.backend.look_hangs = True
        text = await failure(await at.call(), errors.RemovalTimeout)
        assert "waited for the store to find the image" in text
        assert text.endswith("; nothing had been touched")
        assert at.backend.begun == 0


@on_a_clock
async def test_the_operator_ends_one() -> None:
    """Its callers are told so at once; an ID that is none is told from one that is."""
    async with setting() as at:
        tasks = [await at.call() for _ in range(3)]
        assert not at.removals.cancel("2")
        assert at.removals.cancel("1")
        for task in tasks:
            text = await failure(task, errors.RemovalCancelled)
            assert text == (
                f"removal cancelled by the operator, it waited for the store's lock: {NAME}; the image is still there"
            )
        await settle()
        assert not at.removals.cancel("1")


@on_a_clock
async def test_a_caller_that_leaves_stops_nothing() -> None:
    """However many leave, the removal goes on, and is still seen."""
    async with setting() as at:
        tasks = [await at.call() for _ in range(2)]
        assert at.removals.running()[0].waiters == 2
        for task in tasks:
            task.cancel()
        await settle()
        assert at.removals.running()[0].waiters == 0
        at.backend.go.set()
        await at.work.drain()
        assert await at.backend.images() == ()
        assert at.ended == ["removed"]


@on_a_clock
async def test_a_success_counts_only_for_those_who_were_there_when_it_began() -> None:
    """The image may have come back meanwhile: who came later gets a removal that began after it came, all one."""
    async with setting() as at:
        first = await at.call()
        late = [await at.call() for _ in range(5)]
        assert at.backend.begun == 1
        at.backend.go.set()
        await first
        at.backend.go.clear()
        await at.pull(NAME)
        await settle()
        assert at.backend.begun == 2
        assert not any(task.done() for task in late)
        at.backend.go.set()
        await asyncio.gather(*late)
        assert await at.backend.images() == ()
        assert at.ended == ["removed", "removed"]


@on_a_clock
async def test_a_failure_is_everybodys() -> None:
    """Each gets an error of its own; a fault of the backend is told as one, with its traceback only in the log."""
    async with setting() as at:
        at.backend.in_use.add(REMOTE.id)
        tasks = [await at.call() for _ in range(3)]
        at.backend.go.set()
        await asyncio.wait(tasks)
        found = [task.exception() for task in tasks]
        assert [type(error) for error in found] == [errors.ImageInUse] * 3
        assert len(set(map(id, found))) == 3
        at.backend._stored = None  # type: ignore[assignment]
        text = await failure(await at.call(), errors.OperationFailed)
        assert text == "internal error, the log of the image service says more"


def test_the_log_tells_how_many_asked() -> None:
    """Each caller counts, also one that has left since."""

    @on_a_clock
    async def run() -> None:
        async with setting() as at:
            first, other = await at.call(), await at.call()
            other.cancel()
            at.backend.go.set()
            await first

    with structlog.testing.capture_logs() as logged:
        run()
    assert [line["callers"] for line in logged if line["event"] == "removal finished"] == [2]


@on_a_clock
async def test_the_servers_end_reaches_every_caller() -> None:
    """Nobody waits for ever for what is not done any more."""
    async with Work() as work:
        at = At(SlowBackend(), work)
        await at.pull(NAME)
        task = await at.call()
    assert "stopping" in await failure(task, errors.RemovalCancelled)
    assert at.removals.running() == ()


@on_a_clock
async def test_another_limit_counts_for_what_begins_then() -> None:
    """A reload changes nothing for a removal that runs."""
    async with setting() as at:
        first = await at.call()
        at.removals.set_timeout(5)
        second = await at.call(OTHER)
        await asyncio.sleep(6)
        assert (first.done(), second.done()) == (False, True)
        assert "within 5s" in await failure(second, errors.RemovalTimeout)
        assert "within 100s" in await failure(first, errors.RemovalTimeout)
