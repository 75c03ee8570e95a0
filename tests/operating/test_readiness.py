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
        assert await ready.problems() == [("backend", DOWN)]
        looks = backend.calls["check"]
        done.set()
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
