"""One pull for equal requests; each caller comes and goes alone (cri-o P13, python-stack 4)."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from criimage import errors
from criimage.backend import Phase, PullContext, PullProgress
from criimage.credentials import Credentials
from criimage.pulls import running
from criimage.pulls.policy import PullPolicy
from criimage.pulls.running import PullKey, RunningPull
from criimage.pulls.sharing import Pulls
from criimage.reference import Name
from criimage.testing.memory import MemoryBackend
from criimage.work import Work
from pulls.clock import on_a_clock, settle
from pulls.fake_backend import left, reference, setting

BOB, EVE = Credentials("bob", "b"), Credentials("eve", "e")


@on_a_clock
async def test_equal_requests_are_one_pull() -> None:
    """However the name is written: what counts is what it resolves to. All get the result of the one attempt."""
    async with setting() as at:
        names = ["busybox", "docker.io/library/busybox:latest", "docker.io/busybox"]
        tasks = [await at.call(name, BOB, "ns", f"pod{number}") for number, name in enumerate(names)]
        (attempt,) = at.attempts
        assert (attempt.credentials, attempt.context.namespace) == (BOB, "ns")
        (view,) = at.pulls.running()
        assert (view.reference, view.resolved) == ("busybox", "docker.io/library/busybox:latest")
        assert view.waiters == ("ns/pod0", "ns/pod1", "ns/pod2")
        attempt.succeed()
        results = await asyncio.gather(*tasks)
        assert [result.image for result in results] == [attempt.image] * 3
        assert {result.reference for result in results} == {attempt.reference}
        assert at.pulls.running() == ()


@on_a_clock
async def test_what_is_not_equal_is_not_shared() -> None:
    """Other credentials, another namespace, another reference, other candidates: each its own pull (protocol 2.5)."""
    async with setting() as at:
        at.backend.meanings["short"] = ("a.example/x:1", "b.example/x:1")
        calls: list[tuple[str, Credentials | None, str]] = [
            ("a.example/x:1", None, ""),
            ("a.example/x:1", BOB, ""),
            ("a.example/x:1", EVE, ""),
            ("a.example/x:1", Credentials("bob", "other"), ""),
            ("a.example/x:1", Credentials("bob", "b", server_address="a.example"), ""),
            ("a.example/x:1", BOB, "ns"),
            ("a.example/x:2", BOB, "ns"),
            ("short", None, ""),
        ]
        for call in calls:
            await at.call(*call)
        assert len(at.attempts) == len(calls)
        assert [view.id for view in at.pulls.running()] == [str(number) for number in range(1, len(calls) + 1)]


@on_a_clock
async def test_each_caller_leaves_alone() -> None:
    """The first one goes and later another: the pull goes on for who is left, with the same attempt."""
    async with setting() as at:
        tasks = [await at.call("a.example/x", pod=f"p{number}", namespace="n") for number in range(4)]
        for number in (0, 2):
            await left(tasks[number])
            assert tasks[number].cancelled()
        assert at.pulls.running()[0].waiters == ("n/p1", "n/p3")
        (attempt,) = at.attempts
        assert not attempt.stopping.is_set()
        attempt.succeed()
        assert (await tasks[1]).image == (await tasks[3]).image == attempt.image


@on_a_clock
async def test_the_last_one_stops_it() -> None:
    """Nobody waits: the attempt is cancelled at once, and the key is free while it still tidies up."""
    async with setting() as at:
        first = [await at.call("a.example/x") for _ in range(2)]
        at.attempts[0].may_stop.clear()
        for task in first:
            await left(task)
        await at.attempts[0].stopping.wait()
        assert at.pulls.running() == ()
        second = await at.call("a.example/x")
        assert len(at.attempts) == 2
        at.attempts[1].succeed()
        assert (await second).image == at.attempts[1].image
        at.attempts[0].may_stop.set()
        await settle()
        (ended,) = [view for view in at.pulls.ended_since(0) if view.progress.phase is Phase.FAILED]
        assert ended.id == "1"


@on_a_clock
async def test_a_caller_that_leaves_at_once() -> None:
    """Cancelled before the pull's first step, in any of the first moments: nothing runs on and nothing is left."""
    async with setting() as at:
        for turns in range(8):
            asked = at.pulls.pull(Name.parse("a.example/x"), None, PullContext())
            task = asyncio.create_task(asked)
            for _ in range(turns):
                await asyncio.sleep(0)
            await left(task)
            await settle()
            assert at.pulls.running() == ()
        assert all(attempt.stopping.is_set() for attempt in at.attempts)
        assert at.attempts


@on_a_clock
async def test_every_caller_gets_an_error_of_its_own() -> None:
    """Equal in kind, text and cause, but not one object: tracebacks do not pile up (python-stack 4)."""
    async with setting() as at:
        tasks = [await at.call("a.example/x") for _ in range(3)]
        failure = errors.AccessDenied("unauthorized: a.example/x:latest")
        failure.__cause__ = ValueError("cause")
        at.attempts[0].fail(failure)
        caught = await asyncio.gather(*tasks, return_exceptions=True)
        assert len({id(error) for error in (*caught, failure)}) == 4
        for error in caught:
            assert isinstance(error, errors.AccessDenied)
            assert error.text == failure.text
            assert error.__cause__ is failure.__cause__


@on_a_clock
async def test_nothing_is_answered_from_a_finished_pull() -> None:
    """After success and after failure the next caller asks the registry again (protocol 2.5b)."""
    async with setting() as at:
        for number in range(3):
            task = await at.call("a.example/x")
            if number == 1:
                at.attempts[number].fail(errors.RateLimited("slow down"))
            else:
                at.attempts[number].succeed()
            await asyncio.wait({task})
            assert (task.exception() is None) is (number != 1)
        assert len(at.attempts) == 3


@on_a_clock
async def test_a_fault_in_the_backend_is_an_error_of_this_pull() -> None:
    """Whatever it raises, its callers are told so in general words, and the rest goes on."""
    async with setting() as at:
        tasks = [await at.call("a.example/x") for _ in range(2)]
        other = await at.call("a.example/y")
        at.attempts[0].fail(ZeroDivisionError("secret details"))
        for task in tasks:
            with pytest.raises(errors.OperationFailed, match=r"^internal error, the log .* says more$"):
                await task
        at.attempts[1].succeed()
        await other


@on_a_clock
async def test_a_name_that_does_not_resolve_starts_nothing() -> None:
    """The resolver's error is the caller's, and no pull is seen."""
    async with setting() as at:
        at.backend.resolve_error = errors.InvalidRequest("no registry for short names")
        with pytest.raises(errors.InvalidRequest, match="no registry"):
            await (await at.call("x"))
        assert at.pulls.ended_count == 0


@on_a_clock
async def test_the_operator_ends_a_pull() -> None:
    """All waiters are told by whom, the work stops, the ID is used up; other pulls and unknown IDs are left alone."""
    async with setting() as at:
        tasks = [await at.call("a.example/x:1") for _ in range(2)]
        other = await at.call("a.example/y")
        assert at.pulls.cancel("1")
        for task in tasks:
            with pytest.raises(errors.PullCancelled, match=r"^cancelled by the operator: a.example/x:1$"):
                await task
        await at.attempts[0].stopping.wait()
        for unknown in ("1", "0", "", "77", "x"):
            assert not at.pulls.cancel(unknown)
        assert [view.id for view in at.pulls.running()] == ["2"]
        at.attempts[1].succeed()
        await other


@on_a_clock
async def test_a_stopping_server_ends_all_and_takes_no_more() -> None:
    """Running and queued ones are told; so is who comes later; then nothing runs any more."""
    async with setting(PullPolicy(parallel=1)) as at:
        tasks = [await at.call(f"a.example/x{number}") for number in range(3)]
        assert at.phases() == ["resolving", "queued", "queued"]
        at.pulls.cancel_all()
        tasks.append(await at.call("a.example/late"))
        for task in tasks:
            with pytest.raises(errors.PullCancelled, match=r"^the image service is stopping$"):
                await task
        await at.work.drain()
        assert len(at.attempts) == 1
        assert at.pulls.running() == ()


@on_a_clock
async def test_nobody_waits_for_ever_when_the_work_is_cut_off() -> None:
    """Tasks that are ended from outside, begun or not, tell their waiters all the same."""
    async with Work() as work:
        pulls = Pulls(MemoryBackend(), work)
        names = [Name.parse(text) for text in ("a.example/x", "a.example/y")]
        begun = [asyncio.create_task(pulls.pull(name, None, PullContext())) for name in names]
        await asyncio.sleep(0)
    for task in begun:
        with pytest.raises(errors.CriimageError):
            await task
    with pytest.raises(RuntimeError, match="stopped"):
        await pulls.pull(Name.parse("a.example/z"), None, PullContext())
    assert pulls.running() == ()


@on_a_clock
async def test_what_has_ended_is_shown_once_more() -> None:
    """Views of ended pulls, from a mark on, as they were at their end."""
    async with setting() as at:
        mark = at.pulls.ended_count
        tasks = [await at.call(f"a.example/x{number}") for number in range(2)]
        at.attempts[0].downloading(70, 100)
        at.attempts[0].succeed()
        await tasks[0]
        (done,) = at.pulls.ended_since(mark)
        assert (done.progress.phase, done.progress.bytes_done, done.rate) == (Phase.DONE, 70, 0.0)
        middle = at.pulls.ended_count
        at.attempts[1].fail(errors.RateLimited("x"))
        await asyncio.wait({tasks[1]})
        assert [view.progress.phase for view in at.pulls.ended_since(middle)] == [Phase.FAILED]
        assert len(at.pulls.ended_since(mark)) == 2
        assert at.pulls.ended_since(at.pulls.ended_count) == ()


@on_a_clock
async def test_news_are_beginnings_and_ends() -> None:
    """Whoever waits for news gets it at once, or goes on after the given time."""
    async with setting() as at:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await at.pulls.news(5)
        assert loop.time() - began == pytest.approx(5)
        waiting = asyncio.create_task(at.pulls.news(100))
        await settle()
        await at.call("a.example/x")
        await waiting
        waiting = asyncio.create_task(at.pulls.news(100))
        await settle()
        at.attempts[0].succeed()
        await waiting
        assert loop.time() - began == pytest.approx(5)


@on_a_clock
async def test_a_late_report_changes_nothing() -> None:
    """What a backend says after the end of a pull is not heard."""
    async with setting() as at:
        task = await at.call("a.example/x")
        at.attempts[0].downloading(1)
        at.attempts[0].succeed()
        await task
        at.attempts[0].downloading(2)
        (view,) = at.pulls.ended_since(0)
        assert (view.progress.phase, view.progress.bytes_done) == (Phase.DONE, 1)
        pull = one_pull()
        pull.done.set()
        pull.report(PullProgress(Phase.DOWNLOADING, 2))
        assert pull.progress.bytes_done == 0


def one_pull() -> RunningPull:
    key = PullKey((reference("a.example/x"),), None, "")
    return RunningPull("1", key, Name.parse("a.example/x"), PullContext())


REPORTS = st.builds(
    PullProgress,
    st.sampled_from([Phase.RESOLVING, Phase.DOWNLOADING, Phase.UNPACKING]),
    st.integers(0, 10**6),
    st.none() | st.integers(0, 10**6),
    activity=st.integers(0, 3),
)


@given(st.lists(REPORTS))
def test_bytes_never_go_backwards(reports: list[PullProgress]) -> None:
    """Whatever a backend says; and exactly the changes are told."""

    async def told() -> None:
        pull, changes = one_pull(), 0

        def count() -> None:
            nonlocal changes
            changes += 1

        pull.on_change = count
        seen = [pull.progress]
        for progress in reports:
            before = changes
            pull.report(progress)
            assert (changes > before) is (pull.progress != seen[-1])
            seen.append(pull.progress)
        amounts = [progress.bytes_done for progress in seen]
        assert all(before <= after for before, after in pairwise(amounts))

    asyncio.run(told())


def test_the_rate_is_that_of_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steady bytes give their rate; a standstill brings it to 0 within seconds, the end at once."""
    now = 0.0
    monkeypatch.setattr(running, "time", SimpleNamespace(monotonic=lambda: now, time=lambda: now))
    pull = one_pull()
    assert pull.rate == 0
    for second in range(60):
        now = float(second)
        pull.report(PullProgress(Phase.DOWNLOADING, 1000 * second))
        if second:
            assert pull.rate == pytest.approx(1000)
    now += 2.5
    assert 500 < pull.rate < 700
    now += 2.5
    assert pull.rate == 0
    pull.report(PullProgress(Phase.DOWNLOADING, 80_000))
    assert pull.rate > 0
    pull.turn_to(reference("b.example/x"))
    assert pull.rate == 0
    pull.report(PullProgress(Phase.DOWNLOADING, 70_000))
    now += 1
    pull.report(PullProgress(Phase.DOWNLOADING, 80_000))
    assert pull.rate == pytest.approx(10_000)
    pull.report(PullProgress(Phase.DONE, 80_000))
    assert pull.rate == 0
