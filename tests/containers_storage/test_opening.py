"""Claims: what a backend opens later is opened once, for all who need it, and left when the backend is."""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from criimage_containers_storage.opening import Opening
from parts.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WHOSE = contextvars.ContextVar("WHOSE", default="nobody's")


class Made:
    """Contexts that are let in one after another.

    Attributes:
        entered: what each has yielded.
        left: what has been left again.
        failing: whether entering fails.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.entered: list[str] = []
        self.left: list[str] = []
        self.failing = False
        self.go_on = asyncio.Event()

    @asynccontextmanager
    async def make(self) -> AsyncIterator[str]:
        """Yields its number, and whose it was made."""
        self.begun += 1
        number = self.begun
        await self.go_on.wait()
        if self.failing:
            raise OSError("not now")
        value = f"{number}, {WHOSE.get()}"
        self.entered.append(value)
        yield value
        self.left.append(value)


async def test_all_who_come_share_what_is_opened() -> None:
    """However many come at once, and whoever was first: what lives as long as the backend is nothing of a call."""
    made = Made()
    opening = Opening(made.make)
    WHOSE.set("a call's")
    callers = [asyncio.create_task(opening.get()) for _ in range(5)]
    await until(lambda: made.begun)
    made.go_on.set()
    assert await asyncio.gather(*callers) == ["1, nobody's"] * 5
    assert await opening.get() == opening.value == "1, nobody's"
    assert made.begun == 1
    await opening.close()
    assert made.left == made.entered


async def test_a_caller_that_leaves_does_not_end_it() -> None:
    """The next one gets what the first has begun."""
    made = Made()
    opening = Opening(made.make)
    leaving = asyncio.create_task(opening.get())
    await until(lambda: made.begun)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    staying = asyncio.create_task(opening.get())
    made.go_on.set()
    assert await staying == "1, nobody's"
    await opening.close()


async def test_what_failed_is_tried_again() -> None:
    """Each who waited is told; the next one may have more luck."""
    made = Made()
    made.failing = True
    made.go_on.set()
    opening = Opening(made.make)
    found = await asyncio.gather(opening.get(), opening.get(), return_exceptions=True)
    assert [str(one) for one in found] == ["not now"] * 2
    made.failing = False
    assert await opening.get() == "2, nobody's"
    await opening.close()


async def test_closed_while_it_is_entered_it_is_left_all_the_same() -> None:
    """Whoever closes waits for that, cancelled or not; one that nobody ever needed costs nothing."""
    made = Made()
    opening = Opening(made.make)
    await opening.close()
    assert made.begun == 0

    entering = asyncio.create_task(opening.get())
    await until(lambda: made.begun)
    closing = asyncio.create_task(opening.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.sleep(0)
    assert not closing.done()
    made.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert made.left == made.entered == ["1, nobody's"]
    assert await entering == "1, nobody's"
