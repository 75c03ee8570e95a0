"""Who is told what the backend's own check finds, and for how long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import structlog

from criimage import problems
from criimage.backend import Problem
from criimage.server.services import readiness
from criimage.server.services.readiness import Readiness
from parts.serving import WatchedBackend, until

if TYPE_CHECKING:
    from collections.abc import Iterator

DOWN = Problem("the engine does not answer", "start it")
SLOW = Problem("the disk is slow", "buy another")


@pytest.fixture(autouse=True)
def no_problem_stays() -> Iterator[None]:
    """What a watch has told is over with it."""
    yield
    assert problems.standing() == {}


async def test_a_watch_tells_what_is_found_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each problem once, by its text, and over when it is; health sees it as the backend's, not a second time."""
    monkeypatch.setattr(readiness, "WATCH_SECONDS", 0.001)
    backend = WatchedBackend(problems=(DOWN, SLOW))
    ready = Readiness(backend)
    watching = asyncio.create_task(ready.watch())
    await until(lambda: len(problems.standing()) == 2)
    assert await ready.problems() == [("backend", DOWN), ("backend", SLOW)]

    backend._problems = (SLOW,)
    await until(lambda: list(problems.standing().values()) == [SLOW])
    problems.tell("socket", DOWN)
    assert await ready.problems() == [("backend", SLOW), ("socket", DOWN)]
    problems.over("socket")
    watching.cancel()
    await asyncio.wait({watching})
    assert problems.standing() == {}


async def test_what_somebody_finds_before_the_first_look_is_told_too() -> None:
    """A watch that waits for the start to be over is one: whoever asks meanwhile has log and metric told."""
    ready, settled = Readiness(WatchedBackend(problems=(DOWN,))), asyncio.Event()
    watching = asyncio.create_task(ready.watch(3600.0, settled.set))
    await asyncio.sleep(0)
    assert await ready.problems() == [("backend", DOWN)]
    assert list(problems.standing().values()) == [DOWN]
    assert not settled.is_set()
    watching.cancel()
    await asyncio.wait({watching})

    watching = asyncio.create_task(ready.watch(0.0, settled.set))
    await asyncio.wait_for(settled.wait(), 30)
    watching.cancel()
    await asyncio.wait({watching})


async def test_the_end_of_a_watch_is_no_end_of_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stops while its engine is down does not log that this is over; what was over before it does."""
    monkeypatch.setattr(readiness, "WATCH_SECONDS", 0.001)
    backend = WatchedBackend(problems=(DOWN, SLOW))
    with structlog.testing.capture_logs() as logged:
        watching = asyncio.create_task(Readiness(backend).watch())
        await until(lambda: len(problems.standing()) == 2)
        backend._problems = (DOWN,)
        await until(lambda: len(problems.standing()) == 1)
        watching.cancel()
        await asyncio.wait({watching})

    assert problems.standing() == {}
    over = [line["source"] for line in logged if line["event"] == "a problem is over"]
    assert over == ["backend: the disk is slow"]


async def test_whoever_asks_without_a_watch_is_the_only_one_told() -> None:
    """Before the watch begins, and after it has ended, a question of health's leaves nothing standing."""
    ready = Readiness(WatchedBackend(problems=(DOWN,)))
    assert await ready.problems() == [("backend", DOWN)]
    assert problems.standing() == {}
    watching = asyncio.create_task(ready.watch())
    await until(lambda: problems.standing())
    watching.cancel()
    await asyncio.wait({watching})

    assert await ready.problems() == [("backend", DOWN)]
    assert problems.standing() == {}


async def test_a_look_that_takes_long_takes_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the watch saw before a problem came, and has to tell after it: what health found meanwhile stands."""
    monkeypatch.setattr(readiness, "WATCH_SECONDS", 0.001)
    backend = WatchedBackend()
    ready = Readiness(backend)
    check, begun, done = backend.check, asyncio.Event(), asyncio.Event()

    async def slow() -> tuple[Problem, ...]:
        monkeypatch.setattr(backend, "check", check)
        found = await check()
        begun.set()
        await done.wait()
        return found

    monkeypatch.setattr(backend, "check", slow)
    with structlog.testing.capture_logs() as logged:
        watching = asyncio.create_task(ready.watch())
        await begun.wait()
        backend._problems = (DOWN,)
        asked = asyncio.create_task(ready.problems())
        done.set()
        assert await asked == [("backend", DOWN)]
        looks = backend.calls["check"]
        await until(lambda: backend.calls["check"] > looks)  # the next look of the watch: this one has been told
        watching.cancel()
        await asyncio.wait({watching})

    assert [line["event"] for line in logged] == ["a problem stands"]


async def test_a_check_that_fails_or_hangs_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Health always gets an answer, and no text of a fault that nobody has cleaned."""
    monkeypatch.setattr(readiness, "CHECK_SECONDS", 0.01)
    backend = WatchedBackend()
    ready = Readiness(backend)

    async def fails() -> tuple[Problem, ...]:
        raise ValueError("s3cret")

    monkeypatch.setattr(backend, "check", fails)
    ((source, problem),) = await ready.problems()
    assert (source, problem.text) == ("backend", "the backend's check failed: ValueError")
    monkeypatch.setattr(backend, "check", asyncio.Event().wait)
    ((_, problem),) = await ready.problems()
    assert "has not said within" in problem.text


class HangingThread(WatchedBackend):
    """Its check hangs as one does in a file system that is gone: in a thread, so that no cancel ends it.

    Attributes:
        begun: how many checks have.
        back: lets them end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self.back = asyncio.Event()

    async def check(self) -> tuple[Problem, ...]:
        """Find nothing, once it comes back."""
        self.begun += 1
        cancelled = False
        waiting = asyncio.ensure_future(self.back.wait())
        while not waiting.done():
            try:
                await asyncio.wait({waiting})
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError
        return ()


async def test_a_check_that_cannot_be_stopped_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question is answered in time and each caller can leave; there is one such check, not one for each."""
    monkeypatch.setattr(readiness, "CHECK_SECONDS", 0.01)
    backend = HangingThread()
    ready = Readiness(backend)
    asked = [asyncio.create_task(ready.problems()) for _ in range(20)]
    asked[0].cancel()
    await asyncio.wait({asked[0]})
    assert asked[0].cancelled()
    for each in asked[1:]:
        ((_, problem),) = await each
        assert "has not said within" in problem.text
    ((_, problem),) = await ready.problems()
    assert "has not said within" in problem.text
    assert backend.begun == 1

    backend.back.set()
    await until(lambda: ready._check is None)
    assert await ready.problems() == []
    assert backend.begun == 2


async def test_a_check_has_begun_after_the_question() -> None:
    """What was found before may be over: whoever asks while another's check runs is told what the next one finds."""
    backend = WatchedBackend(problems=(DOWN,))
    ready = Readiness(backend)
    running, go_on = asyncio.Event(), asyncio.Event()
    checked = backend.check

    async def slow() -> tuple[Problem, ...]:
        found = await checked()
        running.set()
        await go_on.wait()
        return found

    backend.check = slow  # type: ignore[method-assign]
    first = asyncio.create_task(ready.problems())
    await running.wait()
    backend._problems = ()
    later = [asyncio.create_task(ready.problems()) for _ in range(3)]
    go_on.set()
    assert await first == [("backend", DOWN)]
    assert [await each for each in later] == [[]] * 3
