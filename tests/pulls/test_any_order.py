"""Callers come, leave and are cancelled while pulls end in every way: whatever the order, the books are right."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from criimage import errors
from criimage.pulls.policy import PullPolicy, RegistryPolicy
from pulls.clock import on_a_clock, settle
from pulls.fake_backend import setting

if TYPE_CHECKING:
    from criimage.pulls.running import Pulled
    from pulls.fake_backend import Setting

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["come", "come", "leave", "succeed", "fail", "report", "cancel", "linger", "wait"]),
        st.integers(0, 5),
    ),
    max_size=40,
)
POLICIES = st.builds(
    PullPolicy,
    st.builds(RegistryPolicy, st.sampled_from([0.0, 3.0, 60.0]), st.sampled_from([0.0, 100.0]), st.integers(0, 2)),
    parallel=st.integers(0, 2),
)


class Books:
    """Carries out steps, and keeps what must come of them."""

    def __init__(self, at: Setting) -> None:
        self.at = at
        self.callers: list[asyncio.Task[Pulled]] = []
        self.left: set[asyncio.Task[Pulled]] = set()

    async def step(self, action: str, choice: int) -> None:
        """Does one thing to one of those there are."""
        waiting = [task for task in self.callers if not task.done()]
        open_attempts = [one for one in self.at.attempts if not one.end.done() and not one.stopping.is_set()]
        running = self.at.pulls.running()
        match action:
            case "come":
                host = "abc"[choice % 3]
                self.callers.append(await self.at.call(f"{host}.example/x{choice % 2}"))
            case "leave" if waiting:
                task = waiting[choice % len(waiting)]
                self.left.add(task)
                task.cancel()
            case "succeed" | "fail" | "report" if open_attempts:
                attempt = open_attempts[choice % len(open_attempts)]
                if action == "succeed":
                    attempt.succeed()
                elif action == "fail":
                    attempt.fail(errors.RateLimited("slow down"))
                else:
                    attempt.downloading(choice)
            case "cancel" if running:
                assert self.at.pulls.cancel(running[choice % len(running)].id)
            case "linger" if open_attempts:
                open_attempts[choice % len(open_attempts)].may_stop.clear()
            case "wait":
                await asyncio.sleep(choice)
        await settle()

    def check(self) -> None:
        """Whoever waits is written down at a pull that runs, and nobody else; none waits at two."""
        waiting = sum(not task.done() for task in self.callers)
        running = self.at.pulls.running()
        assert sum(len(view.waiters) for view in running) == waiting
        assert all(view.waiters for view in running)
        assert len({(view.reference, view.resolved) for view in running}) == len(running)
        busy = [one for one in self.at.attempts if not one.end.done() and not one.stopping.is_set()]
        assert len(busy) <= len(running)


@settings(max_examples=200, deadline=None)
@given(STEPS, POLICIES)
def test_any_order(steps: list[tuple[str, int]], policy: PullPolicy) -> None:
    """No caller is forgotten or told somebody else's story, no pull runs for nobody, no place is lost."""

    @on_a_clock
    async def run() -> None:
        async with setting(policy) as at:
            books = Books(at)
            for action, choice in steps:
                await books.step(action, choice)
                books.check()
            for attempt in at.attempts:
                attempt.may_stop.set()
            at.pulls.cancel_all()
            await at.work.drain()
            await asyncio.wait([asyncio.create_task(asyncio.sleep(0)), *books.callers])
            assert at.pulls.running() == ()
            assert not at.pulls._limiter._taken
            for task in books.callers:
                assert task.cancelled() is (task in books.left)
                if not task.cancelled() and (error := task.exception()) is not None:
                    assert isinstance(error, errors.RateLimited | errors.PullTimeout | errors.PullCancelled)

    run()
