"""An event loop whose clock jumps: what takes minutes for pulls takes no time in a test, and is exact."""

from __future__ import annotations

import asyncio
import functools
import selectors
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

P = ParamSpec("P")


class _Selector(selectors.DefaultSelector):
    """Where nothing is ready, it moves the clock to the next timer instead of waiting for it."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout is None:
            raise AssertionError("every task waits for something that will never come")
        if not found and timeout:
            self.now += timeout
        return found


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def on_a_clock(test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """Runs a coroutine function as a test on such a loop; no threads, no sockets, no processes."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=_Loop) as runner:
            runner.run(test(*args, **kwargs))

    return run


async def settle() -> None:
    """Gives every task its turns, at no time passing."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Lets time pass until a condition holds; fails after an hour of it."""
    async with asyncio.timeout(3600):
        while not condition():  # noqa: ASYNC110 - no time passes really
            await asyncio.sleep(0.1)
