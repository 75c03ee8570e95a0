"""Work that outlives the request that began it (python-stack 4)."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import pytest

from criimage.work import CANCEL_SECONDS, Work
from pulls.clock import on_a_clock, settle


@on_a_clock
async def test_finish_survives_its_caller() -> None:
    """However often the caller is cancelled, the work runs to its end once; without a cancel its result comes back."""
    ended = []

    async def slow(number: int) -> int:
        await asyncio.sleep(10)
        ended.append(number)
        return number

    async with Work() as work:
        caller = asyncio.create_task(work.finish(slow(1), "one"))
        await settle()
        caller.cancel()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert await work.finish(slow(2), "two") == 2
        await work.drain()
    assert ended == [1, 2]


@on_a_clock
async def test_an_error_is_the_callers() -> None:
    """It reaches who waits, and is dropped without a word where nobody does any more."""

    async def faulty() -> None:
        await asyncio.sleep(1)
        raise ValueError("fault")

    async with Work() as work:
        with pytest.raises(ValueError, match="fault"):
            await work.finish(faulty(), "one")
        caller = asyncio.create_task(work.finish(faulty(), "two"))
        await settle()
        caller.cancel()
        await asyncio.wait({caller})
        await work.drain()


@on_a_clock
async def test_leaving_cancels_and_waits() -> None:
    """At the end nothing runs any more, also what takes its time to stop; and nothing can be started."""
    stopped = []

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(CANCEL_SECONDS / 2)
            stopped.append(True)

    async with Work() as work:
        tasks = [work.start(stubborn(), f"{number}") for number in range(3)]
        await settle()
    assert all(task.cancelled() for task in tasks)
    assert len(stopped) == 3
    with pytest.raises(RuntimeError, match="the server has stopped"):
        work.start(stubborn(), "late")


@on_a_clock
async def test_leaving_does_not_wait_for_ever() -> None:
    """What does not stop is left behind after some seconds: the server has to end."""
    loop = asyncio.get_running_loop()
    may_end = asyncio.Event()

    async def deaf() -> None:
        while not may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await may_end.wait()

    began = loop.time()
    async with Work() as work:
        task = work.start(deaf(), "deaf")
        await settle()
    assert loop.time() - began == pytest.approx(CANCEL_SECONDS)
    assert not task.done()
    may_end.set()
    await task


async def test_what_ends_unheard_is_no_fault_of_the_loop() -> None:
    """Neither an error nor a cancel that nobody waited for is told to the loop's handler of exceptions."""
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    async def faulty() -> None:
        raise ValueError("fault")

    async with Work() as work:
        work.start(faulty(), "one")
        work.start(asyncio.Event().wait(), "two").cancel()
        await work.drain()
        gc.collect()
    assert told == []
