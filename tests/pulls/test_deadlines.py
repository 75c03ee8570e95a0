"""A pull that stands still or takes too long is cut off; one that moves is not (cri-o P15, T13; docker P17-P19)."""

from __future__ import annotations

import asyncio

import pytest

from criimage import errors
from criimage.backend import Phase, PullContext, PullProgress
from criimage.pulls.attempts import STOP_SECONDS
from criimage.pulls.policy import PullPolicy, RegistryPolicy
from criimage.pulls.sharing import RESOLVE_SECONDS
from criimage.reference import Name, Reference
from pulls.clock import on_a_clock, settle
from pulls.fake_backend import Setting, left, setting

MINUTE = PullPolicy(RegistryPolicy(progress_timeout=60))


def now() -> float:
    return asyncio.get_running_loop().time()


async def cut_off(at: Setting, *, after: float, text: str) -> None:
    """A pull is cut off after so many seconds without anything, with this text, and its work has ended then."""
    task = await at.call("a.example/x:1")
    began = now()
    at.attempts[-1].may_stop.clear()
    await at.attempts[-1].stopping.wait()
    assert now() - began == pytest.approx(after, abs=0.01)
    await settle()
    assert not task.done()  # not before the work has stopped
    at.attempts[-1].may_stop.set()
    with pytest.raises(errors.PullTimeout) as caught:
        await task
    assert caught.value.text == f"pull cut off: {text}: a.example/x:1"


@on_a_clock
async def test_a_registry_that_never_answers() -> None:
    """The clock starts with the request, so a token or manifest that never comes counts (P15 ours, P19)."""
    async with setting(MINUTE) as at:
        await cut_off(at, after=60, text="no progress for 60s while waiting for the registry to answer")


@on_a_clock
async def test_the_time_in_the_queue_does_not_count() -> None:
    """The clock starts when the pull gets its place."""
    async with setting(PullPolicy(RegistryPolicy(60, 90), parallel=1)) as at:
        first = await at.call("a.example/first")
        second = await at.call("a.example/second")
        for step in range(100):
            at.attempts[0].downloading(step)
            await asyncio.sleep(0.8)
        assert len(at.attempts) == 1
        at.attempts[0].succeed()
        await first
        await asyncio.sleep(59)
        assert not second.done()
        at.attempts[1].succeed()
        await second


@on_a_clock
async def test_a_trickle_that_moves_is_not_cut() -> None:
    """One byte a minute is progress; hours of it."""
    async with setting(MINUTE) as at:
        task = await at.call("a.example/x")
        for done in range(200):
            at.attempts[0].downloading(done, 10**9)
            await asyncio.sleep(59.9)
        at.attempts[0].succeed()
        await task


@on_a_clock
async def test_only_a_real_change_resets_the_clock() -> None:
    """The same figures again and again are no progress, nor are bytes that go backwards."""
    async with setting(MINUTE) as at:
        task = await at.call("a.example/x")
        at.attempts[0].downloading(500, 1000)
        began = now()
        while not at.attempts[0].stopping.is_set():
            at.attempts[0].downloading(500, 1000)
            at.attempts[0].downloading(499, 1000)
            await asyncio.sleep(1)
        assert 60 <= now() - began <= 61
        with pytest.raises(errors.PullTimeout, match="while downloading layers"):
            await task


@on_a_clock
async def test_a_long_unpack_is_no_stall() -> None:
    """Activity counts while no byte comes; when that stops too, the pull is cut off and says while doing what."""
    async with setting(MINUTE) as at:
        task = await at.call("a.example/x")
        for activity in range(100):
            at.attempts[0].report(PullProgress(Phase.UNPACKING, 1000, 1000, activity=activity))
            await asyncio.sleep(50)
        assert not task.done()
        await at.attempts[0].stopping.wait()
        with pytest.raises(errors.PullTimeout, match=r"no progress for 10m while unpacking: "):
            await task


def waits(activity: int = 0, done: int = 0) -> PullProgress:
    return PullProgress(Phase.WAITING_FOR_STORE, done, activity=activity)


@on_a_clock
async def test_waiting_for_the_store_is_no_silence_of_the_registry() -> None:
    """It has `store_timeout`, as a whole and whatever is reported meanwhile, and a text of its own (design 4)."""
    async with setting(PullPolicy(RegistryPolicy(progress_timeout=60, store_timeout=600))) as at:
        task = await at.call("a.example/x:1")
        began = now()
        at.attempts[0].report(waits())
        for activity in range(7):
            await asyncio.sleep(80)
            at.attempts[0].report(waits(activity))
        assert not task.done()
        with pytest.raises(errors.PullTimeout) as caught:
            await task
        assert now() - began == pytest.approx(600, abs=0.01)
        assert caught.value.text == "pull cut off: the store kept it waiting for 10m: a.example/x:1"


@on_a_clock
async def test_the_registrys_clock_stops_while_the_store_is_waited_for() -> None:
    """It goes on where it stood; what the registry has used up before is not forgotten."""
    async with setting(MINUTE) as at:
        task = await at.call("a.example/x")
        at.attempts[0].downloading(1)
        await asyncio.sleep(40)
        at.attempts[0].report(waits(done=1))
        await asyncio.sleep(500)
        at.attempts[0].downloading(1)
        began = now()
        with pytest.raises(errors.PullTimeout, match="no progress for 60s while downloading layers"):
            await task
        assert now() - began == pytest.approx(20, abs=0.01)


@on_a_clock
async def test_to_and_fro_between_registry_and_store_is_no_progress() -> None:
    """Whoever has had its time ends the pull; a byte that comes gives both theirs back."""
    async with setting(PullPolicy(RegistryPolicy(progress_timeout=60, store_timeout=600))) as at:
        task = await at.call("a.example/x")
        for done in (1, 2):
            for _ in range(11):
                at.attempts[0].downloading(done)
                await asyncio.sleep(5)
                at.attempts[0].report(waits(done=done))
                await asyncio.sleep(50)
        assert not task.done()
        at.attempts[0].downloading(2)
        began = now()
        with pytest.raises(errors.PullTimeout, match="while downloading layers"):
            await task
        assert now() - began == pytest.approx(5, abs=0.01)


@on_a_clock
async def test_the_stores_time_can_be_another_for_one_registry_and_none_at_all() -> None:
    """As every limit: a table of the registry's own wins, 0 is never."""
    own = {"big.example": RegistryPolicy(store_timeout=5), "never.example": RegistryPolicy(store_timeout=0)}
    async with setting(PullPolicy(registries=own)) as at:
        task, never = await at.call("big.example/x:1"), await at.call("never.example/x")
        for attempt in at.attempts:
            attempt.report(waits())
        with pytest.raises(errors.PullTimeout, match=r"^pull cut off: the store kept it waiting for 5s: big"):
            await task
        await asyncio.sleep(10**4)
        assert not never.done()
        await left(never)


@on_a_clock
async def test_a_registry_that_asks_to_wait_for_long() -> None:
    """429 and Retry-After end at `progress_timeout`, as what they are: further refusals are no progress."""
    async with setting(MINUTE) as at:
        task = await at.call("a.example/x:1")
        began = now()
        for seconds in (30, 3600):
            at.attempts[0].report(PullProgress(Phase.RESOLVING, retry_after=seconds))
            await asyncio.sleep(20)
        with pytest.raises(errors.RateLimited) as caught:
            await task
        assert now() - began == pytest.approx(60, abs=0.01)
        assert caught.value.text == "toomanyrequests: the registry asks to wait 3600 s: a.example/x:1"


@on_a_clock
async def test_a_registry_that_asked_to_wait_and_then_went_silent() -> None:
    """Once it has answered, the earlier refusal is no reason any more."""
    async with setting(MINUTE) as at:
        task = await at.call("a.example/x:1")
        at.attempts[0].report(PullProgress(Phase.RESOLVING, retry_after=30))
        at.attempts[0].downloading(5)
        with pytest.raises(errors.PullTimeout, match="while downloading layers"):
            await task


@on_a_clock
async def test_the_total_time() -> None:
    """Progress does not help against `total_timeout`; its text names the limit and nothing that varies."""
    async with setting(PullPolicy(RegistryPolicy(progress_timeout=60, total_timeout=300))) as at:
        task = await at.call("a.example/x:1")
        began = now()
        done = 0
        while not task.done():
            at.attempts[0].downloading(done := done + 1)
            await asyncio.wait({task}, timeout=10)
        assert now() - began == pytest.approx(300, abs=0.1)
        with pytest.raises(errors.PullTimeout, match=r"^pull cut off: not complete within 5m: a.example/x:1$"):
            await task


@on_a_clock
async def test_whichever_comes_first() -> None:
    """A standstill near the end of the total time is called what it is."""
    async with setting(PullPolicy(RegistryPolicy(60, 60.5))) as at:
        await cut_off(at, after=60, text="no progress for 60s while waiting for the registry to answer")
    async with setting(PullPolicy(RegistryPolicy(60, 59.5))) as at:
        await cut_off(at, after=59.5, text="not complete within 59s500ms")


@on_a_clock
async def test_each_registry_its_own() -> None:
    """`[pulls.registry."HOST"]` wins for that host; each candidate has its registry's."""
    own = {"slow.example": RegistryPolicy(600), "a.example": RegistryPolicy(5), "never.example": RegistryPolicy(0)}
    async with setting(PullPolicy(RegistryPolicy(60), own)) as at:
        await cut_off(at, after=5, text="no progress for 5s while waiting for the registry to answer")
        at.backend.meanings["x:1"] = ("slow.example/x:1", "other.example/x:1")
        task = await at.call("x:1")
        began = now()
        with pytest.raises(errors.PullTimeout) as caught:
            await task
        assert now() - began == pytest.approx(660, abs=0.1)
        doing = "while waiting for the registry to answer"
        assert caught.value.text == (
            f"pull cut off: no progress for 60s {doing}: other.example/x:1; earlier: "
            f"slow.example/x:1: pull cut off: no progress for 10m {doing}: slow.example/x:1"
        )
        never = await at.call("never.example/x")
        await asyncio.sleep(10**4)
        assert not never.done()
        await left(never)


@on_a_clock
async def test_silence_of_a_backend_that_does_not_report_means_nothing() -> None:
    """No progress_timeout there; the total time holds all the same."""
    async with setting(PullPolicy(RegistryPolicy(60, 3600))) as at:
        at.backend.reports_progress = False
        await cut_off(at, after=3600, text="not complete within 1h")


@on_a_clock
async def test_a_backend_that_calls_its_end_a_failure() -> None:
    """Stopped by a deadline, it may raise an error of its own: the caller hears of the deadline."""
    async with setting(MINUTE) as at:
        task = await at.call("a.example/x")
        at.attempts[0].when_stopped = errors.OperationFailed("the tool was ended by signal 15")
        with pytest.raises(errors.PullTimeout):
            await task


@on_a_clock
async def test_work_that_does_not_stop_keeps_nobody_waiting() -> None:
    """Some seconds after the deadline its callers have their answer; the slot stays taken, no other name is tried."""
    async with setting(PullPolicy(RegistryPolicy(60, parallel=1))) as at:
        at.backend.meanings["x:1"] = ("a.example/x:1", "b.example/x:1")
        task = await at.call("x:1")
        began = now()
        at.attempts[0].may_stop.clear()
        with pytest.raises(errors.PullTimeout, match=r"^pull cut off: no progress for 60s .*: a\.example/x:1$"):
            await task
        assert now() - began == pytest.approx(60 + STOP_SECONDS, abs=0.01)
        assert at.pulls.running() == ()
        again = await at.call("a.example/x:1")
        assert at.phases() == ["queued"]
        at.attempts[0].may_stop.set()
        await settle()
        assert [str(attempt.reference) for attempt in at.attempts] == ["a.example/x:1"] * 2
        await left(again)


@on_a_clock
async def test_success_in_the_last_moment() -> None:
    """What arrives just before the deadline counts."""
    async with setting(MINUTE) as at:
        task = await at.call("a.example/x")
        asyncio.get_running_loop().call_later(59.999, at.attempts[0].succeed)
        assert (await task).image == at.attempts[0].image


@on_a_clock
async def test_two_equal_stalls_say_the_same() -> None:
    """Kubelet joins the errors of several credentials only if they are equal, so texts have no figures (2.4)."""
    texts = set()
    async with setting(MINUTE) as at:
        for done in (10, 500_000):
            task = await at.call("a.example/x")
            await asyncio.sleep(done / 10**5)
            at.attempts[-1].downloading(done, 10**6)
            with pytest.raises(errors.PullTimeout) as caught:
                await task
            texts.add(caught.value.text)
    assert texts == {"pull cut off: no progress for 60s while downloading layers: a.example/x:latest"}


@on_a_clock
async def test_several_candidates_share_the_total_time() -> None:
    """`total_timeout` is the pull's, however many registries its name may mean."""
    async with setting(PullPolicy(RegistryPolicy(progress_timeout=0, total_timeout=100))) as at:
        at.backend.meanings["app"] = ("a.example/app:latest", "b.example/app:latest")
        began = now()
        task = await at.call("app")
        await asyncio.sleep(70)
        at.attempts[0].fail(errors.RemoteImageMissing("manifest unknown"))
        with pytest.raises(errors.PullTimeout, match=r"^pull cut off: not complete within 100s: b\.example"):
            await task
        assert now() - began == pytest.approx(100, abs=0.01)


@on_a_clock
async def test_a_backend_that_cannot_say_what_a_name_means() -> None:
    """Finding out what a name means has a limit as well, and its text names the name."""
    async with setting() as at:
        pulls = at.pulls.pull(Name.parse("app"), None, PullContext())
        at.backend.resolve = never  # type: ignore[method-assign,assignment]
        began = now()
        with pytest.raises(errors.OperationFailed, match=r"^what app means could not be found out in time$"):
            await pulls
        assert now() - began == pytest.approx(RESOLVE_SECONDS)


async def never(_name: Name) -> tuple[Reference, ...]:
    await asyncio.Event().wait()
    return ()
