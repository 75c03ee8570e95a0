"""Claims: a handler whose first step is made without a task goes on in a task as if it had had it from the start."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from criimage.server.http2.hot.first_step import Begun, FirstSteps

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="")


async def begun(begin: Callable[[], Awaitable[Any]]) -> tuple[FirstSteps, Begun[Any]]:
    """Makes the first step from a callback of the loop, where there is no task."""
    steps = FirstSteps()
    await asyncio.sleep(0)
    made: asyncio.Future[Begun[Any]] = asyncio.get_running_loop().create_future()

    def step() -> None:
        assert steps.possible
        made.set_result(steps.make(begin))

    asyncio.get_running_loop().call_soon(step)
    return steps, await made


async def rest(one: Begun[Any], results: list[Any]) -> None:
    """What a call does with its begun handler."""
    try:
        results.append(await one)
    except BaseException as error:
        results.append(error)
        raise


async def test_what_ends_at_once_needs_no_task() -> None:
    """Its result is there, and the task that stood by stands by for the next."""

    async def answer() -> str:
        async with asyncio.timeout(5), asyncio.TaskGroup():
            return "done"

    steps, one = await begun(answer)
    assert one.ended
    assert one.result == "done"
    assert not steps.possible  # this test is a task itself
    assert await one == "done"  # for a call that has one all the same
    steps.close()


async def test_one_task_context_and_scope_from_beginning_to_end() -> None:
    """The current task, context variables and anyio's scopes are after a wait what they were before it."""
    seen: list[object] = []

    async def answer() -> str:
        NAME.set("inside")
        seen.append(asyncio.current_task())
        with anyio.CancelScope():
            await asyncio.sleep(0.001)
            await anyio.lowlevel.checkpoint()
        seen.append(asyncio.current_task())
        return NAME.get()

    steps, one = await begun(answer)
    results: list[Any] = []
    task = steps.go_on(one, rest(one, results))
    await task
    assert results == ["inside"]
    assert seen == [task, task]
    assert NAME.get() == ""
    steps.close()


async def test_a_timeout_that_began_before_the_task_ends_it() -> None:
    """asyncio.timeout is entered in the first step and fires in the task, and only the timeout is heard of."""

    async def answer() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "late"
        raise AssertionError

    steps, one = await begun(answer)
    results: list[Any] = []
    await steps.go_on(one, rest(one, results))
    assert results == ["late"]
    steps.close()


@pytest.mark.parametrize("turns", [0, 1, 3], ids=["before it goes on", "as it goes on", "later"])
async def test_a_cancel_reaches_what_is_waited_for(turns: int) -> None:
    """However early: the future that it waits for is cancelled, the handler is told, and cleans up in its own time."""
    waited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    cleaned = []

    async def answer() -> str:
        try:
            await waited
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)
        raise AssertionError

    steps, one = await begun(answer)
    results: list[Any] = []
    task = steps.go_on(one, rest(one, results))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert waited.cancelled()
    assert cleaned == [True]
    assert isinstance(results[0], asyncio.CancelledError)
    steps.close()


async def test_two_may_wait_for_one_future() -> None:
    """Whoever else awaits the same future between the first step and the task does not disturb either."""
    waited: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def answer() -> str:
        return await waited

    steps, one = await begun(answer)
    other = asyncio.create_task(answer())
    await asyncio.sleep(0)
    results: list[Any] = []
    task = steps.go_on(one, rest(one, results))
    await asyncio.sleep(0)
    waited.set_result("for both")
    await task
    assert results == [await other]
    steps.close()


async def test_an_error_is_kept_for_the_call() -> None:
    """It is raised where the call awaits its handler; nothing else is disturbed."""

    async def answer() -> str:
        raise KeyError("a fault")

    steps, one = await begun(answer)
    assert one.ended
    results: list[Any] = []
    task = steps.go_on(one, rest(one, results))
    with pytest.raises(KeyError, match="a fault"):
        await task
    steps.close()


async def test_a_handler_that_cancels_its_own_task_meets_no_other() -> None:
    """The task that it was in is not used again."""

    async def answer() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "done"

    steps, one = await begun(answer)
    assert one.result == "done"
    await asyncio.sleep(0)
    assert steps._stand_by.ready
    assert not steps._stand_by.task.cancelling()
    steps.close()
