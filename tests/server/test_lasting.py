"""Claim: a task that is meant to live as long as the server outlives any exception, and a dead one is told."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING

import pytest

from criimage import lasting as tasks
from criimage import problems
from criimage.lasting import lasting
from pulls.clock import on_a_clock, settle, until

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping
    from typing import Any

NAME = "of a test"
SOURCE = f"task {NAME}"


@pytest.fixture(autouse=True)
def no_counts() -> Iterator[None]:
    yield
    tasks._failures.pop(NAME, None)


def deep() -> None:
    """Raises what a foreign JSON text that is nested too deeply raises."""
    json.loads("[" * 100_000)


def cancelled_within() -> None:
    """Raises what a library that cancels its own tasks lets escape."""
    raise asyncio.CancelledError


def too_long() -> None:
    """Raises what an integer of too many digits raises."""
    int("1" * 10_000)


@pytest.mark.parametrize("fault", [deep, cancelled_within, too_long])
def test_work_goes_on_after_any_exception(fault: Any, events: list[MutableMapping[str, Any]]) -> None:  # noqa: ANN401
    """RecursionError, ValueError, a cancel that nobody asked for: logged, counted, and begun again."""
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            fault()
        await asyncio.Event().wait()

    @on_a_clock
    async def run() -> None:
        async with lasting(work, NAME):
            await until(lambda: begun == 3)
            assert tasks.failures()[NAME] == 2
            assert SOURCE not in problems.standing()

    run()
    assert [event["task"] for event in events if event["log_level"] == "error"] == [NAME, NAME]


@on_a_clock
async def test_a_task_that_never_failed_is_counted_as_that() -> None:
    """The metric has its series from the start, at 0."""
    async with lasting(asyncio.Event().wait, NAME):
        assert tasks.failures()[NAME] == 0


@pytest.mark.parametrize("returns", [True, False])
def test_one_that_dies_again_and_again_is_a_standing_problem(returns: bool) -> None:
    """After the third failure in a row, until it has run well for a while; returning is a failure as well."""
    begun, broken = 0, True

    async def work() -> None:
        nonlocal begun
        begun += 1
        if not broken:
            await asyncio.Event().wait()
        if not returns:
            raise OSError

    @on_a_clock
    async def run() -> None:
        nonlocal broken
        async with lasting(work, NAME):
            await until(lambda: begun == 3)
            assert SOURCE not in problems.standing() or tasks.failures()[NAME] >= tasks.FAILURES_TOLD
            await until(lambda: SOURCE in problems.standing())
            assert NAME in problems.standing()[SOURCE].text
            broken = False
            await until(lambda: SOURCE not in problems.standing())
            assert tasks.failures()[NAME] == begun - 1

    run()


@on_a_clock
async def test_its_end_takes_its_problem_along() -> None:
    """Once the block is left nothing runs and nothing stands."""

    async def work() -> None:
        raise OSError

    async with lasting(work, NAME):
        await until(lambda: SOURCE in problems.standing())
    assert SOURCE not in problems.standing()
    await settle()
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name() == NAME] == []


@on_a_clock
async def test_the_keeper_itself_is_kept() -> None:
    """Somebody who cancels the task without being its owner does not end the work."""
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()

    async with lasting(work, NAME):
        await settle()
        (task,) = [task for task in asyncio.all_tasks() if task.get_name() == NAME]
        task.cancel()
        await until(lambda: begun == 2)


@pytest.mark.parametrize("stubborn", [True, False])
def test_one_that_does_not_end_is_told_and_waited_for_no_longer(
    stubborn: bool, events: list[MutableMapping[str, Any]]
) -> None:
    """The server's own end has a limit (no wait without one); one that ends in time is no news."""
    free = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            if stubborn:
                await free.wait()

    @on_a_clock
    async def run() -> None:
        loop = asyncio.get_running_loop()
        async with lasting(work, NAME):
            await settle()
            began = loop.time()
        assert loop.time() - began == (tasks.END_SECONDS if stubborn else 0)
        free.set()
        await settle()

    run()
    assert [event["task"] for event in events if event["log_level"] == "warning"] == ([NAME] if stubborn else [])


@on_a_clock
async def test_pauses_grow_and_have_an_end() -> None:
    """What fails at once, for ever, costs next to nothing: a minute between two attempts at last."""
    times: list[float] = []
    loop = asyncio.get_running_loop()

    async def work() -> None:
        times.append(loop.time())
        raise OSError

    async with lasting(work, NAME):
        await until(lambda: len(times) == 12)
    pauses = [round(later - earlier) for earlier, later in itertools.pairwise(times)]
    assert pauses[0] == tasks.FIRST_PAUSE
    assert pauses == sorted(pauses)
    assert pauses[-1] == tasks.LONGEST_PAUSE
