"""Whatever callers do and whatever happens meanwhile: a removal's success is true, and every call has an end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from pulls.clock import on_a_clock, settle
from pulls.removing import NAME, OTHER, At, setting

if TYPE_CHECKING:
    from collections.abc import Callable


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call", "leave", "go", "hold", "pull", "cancel", "stuck", "free", "hold end", "end", "wait"]),
        st.integers(0, 9),
    ),
    max_size=25,
)


class AnyOrder:
    """Callers who come and leave, and all that can happen meanwhile, a step at a time."""

    def __init__(self, at: At) -> None:
        self.at = at
        self.pulls = 0
        self.calls: list[asyncio.Task[None]] = []
        self.wrong = 0

    async def step(self, step: str, choice: int) -> None:
        """Does one thing."""
        backend = self.at.backend
        doing: dict[str, Callable[[], object]] = {
            "go": backend.go.set,
            "hold": backend.go.clear,
            "hold end": backend.may_end.clear,
            "end": backend.may_end.set,
            "stuck": backend.may_stop.clear,
            "free": backend.may_stop.set,
            "cancel": lambda: self.at.removals.cancel(str(choice)),
        }
        if step in doing:
            doing[step]()
        elif step == "call":
            await self._call()
        elif step == "leave" and self.calls:
            self.calls[choice % len(self.calls)].cancel()
        elif step == "pull":
            self.pulls += 1
            await self.at.pull(NAME, OTHER)
        elif step == "wait":
            await asyncio.sleep(choice * 11)
        await settle()
        assert len(self.at.removals.running()) <= 1

    async def _call(self) -> None:
        came = self.pulls

        def check(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception() is None:
                self.wrong += bool(self.at.backend._stored) and self.pulls == came

        self.calls.append(await self.at.call())
        self.calls[-1].add_done_callback(check)


@given(STEPS)
def test_in_any_order(steps: list[tuple[str, int]]) -> None:
    """Nobody is told of success while the image is there that was there when it asked; every call has an end."""

    @on_a_clock
    async def run() -> None:
        async with setting() as at:
            order = AnyOrder(at)
            for step, choice in steps:
                await order.step(step, choice)
            at.backend.may_stop.set()
            at.backend.may_end.set()
            await asyncio.sleep(300)
            assert all(task.done() for task in order.calls)
            assert not order.wrong
            assert at.removals.running() == ()

    run()
