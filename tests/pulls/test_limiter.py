"""How many pulls run at once: first come, first served within a registry, and no registry waits for another."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from criimage.backend import Phase, PullProgress
from criimage.errors import PullTimeout
from criimage.pulls.attempts import SILENCE_SECONDS, STANDSTILL_SECONDS
from criimage.pulls.limiter import Limiter, Slot
from criimage.pulls.policy import PullPolicy, RegistryPolicy
from pulls.clock import on_a_clock, settle, until
from pulls.fake_backend import left, setting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


class Queue:
    """Takes slots for named takers.

    Attributes:
        inside: who has a slot, in the order they got it.
    """

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._leave: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.inside: dict[str, Slot] = {}

    async def come(self, *names: str) -> None:
        """Takers come one after the other; the first letter is the registry."""
        for name in names:
            self._leave[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._take(name))
            await settle()

    async def _take(self, name: str) -> None:
        async with self._limiter.take(name[0]) as slot:
            self.inside[name] = slot
            try:
                await self._leave[name].wait()
            finally:
                del self.inside[name]

    async def go(self, *names: str) -> None:
        """Takers leave, with or without a slot."""
        for name in names:
            if name in self.inside:
                self._leave[name].set()
            else:
                self.tasks[name].cancel()
            await settle()

    def who(self) -> str:
        """Who has a slot."""
        return " ".join(self.inside)


@contextlib.asynccontextmanager
async def queue(policy: PullPolicy) -> AsyncIterator[tuple[Queue, Limiter]]:
    limiter = Limiter(policy)
    made = Queue(limiter)
    yield made, limiter
    for task in made.tasks.values():
        task.cancel()
    await asyncio.gather(*made.tasks.values(), return_exceptions=True)


def shares(default: int = 0, parallel: int = 0, **own: int) -> PullPolicy:
    """A policy with so many slots in all and per registry."""
    registries = {host: RegistryPolicy(parallel=share) for host, share in own.items()}
    return PullPolicy(RegistryPolicy(parallel=default), registries, parallel)


@on_a_clock
async def test_without_limits_nobody_waits() -> None:
    """0 is no limit."""
    async with queue(PullPolicy()) as (at, _):
        await at.come(*(f"a{number}" for number in range(50)))
        assert len(at.inside) == 50


@on_a_clock
async def test_first_come_first_served_within_a_registry() -> None:
    """Each that leaves lets in the one that has waited longest."""
    async with queue(shares(default=2)) as (at, _):
        await at.come("a1", "a2", "a3", "a4", "a5")
        assert at.who() == "a1 a2"
        await at.go("a2")
        assert at.who() == "a1 a3"
        await at.go("a1", "a3")
        assert at.who() == "a4 a5"


@on_a_clock
async def test_a_registrys_queue_holds_up_no_other() -> None:
    """Its share used up, its pulls wait; those of others pass them."""
    async with queue(shares(default=1, parallel=3, b=2)) as (at, _):
        await at.come("a1", "a2", "a3", "b1", "c1", "b2")
        assert at.who() == "a1 b1 c1"
        await at.go("c1")
        assert at.who() == "a1 b1 b2"
        await at.go("b1")
        assert at.who() == "a1 b2"
        await at.go("a1")
        assert at.who() == "b2 a2"


@on_a_clock
async def test_the_registry_with_the_fewest_places_is_next() -> None:
    """A hundred pulls that came first do not keep another registry's only one waiting for all of them."""
    async with queue(shares(parallel=2)) as (at, _):
        await at.come(*(f"a{number}" for number in range(100)), "b1", "c1")
        assert at.who() == "a0 a1"
        await at.go("a0")
        assert at.who() == "a1 b1"
        await at.go("b1")
        assert at.who() == "a1 c1"
        await at.go("c1")
        assert at.who() == "a1 a2"


@on_a_clock
async def test_whoever_stands_still_gives_its_place_away() -> None:
    """To other registries, not to its own; moving again, it counts again and nobody is stopped for it."""
    async with queue(shares(parallel=1)) as (at, _):
        await at.come("a1", "a2", "b1", "b2")
        assert at.who() == "a1"
        still = at.inside["a1"]
        still.stands_still()
        still.stands_still()
        await settle()
        assert at.who() == "a1 b1"
        still.moves()
        await at.go("b1")
        assert at.who() == "a1"
        await at.go("a1")
        assert at.who() == "a2"  # one of each holds none: as they came


@on_a_clock
async def test_a_hung_registry_gets_no_more_than_the_whole_has() -> None:
    """However long its queue is and however many of its pulls stand still: each of them costs a process."""
    async with queue(shares(parallel=2)) as (at, _):
        await at.come(*(f"a{number}" for number in range(9)), "b1")
        for name in ("a0", "a1"):
            at.inside[name].stands_still()
            await settle()
        assert at.who() == "a0 a1 b1"
        await at.go("b1")
        assert at.who() == "a0 a1"
        await at.come("c1", "c2", "c3")
        assert at.who() == "a0 a1 c1 c2"


@on_a_clock
async def test_leaving_the_queue() -> None:
    """A waiter that is cancelled is passed over, also if its slot comes in that very moment."""
    async with queue(shares(parallel=1)) as (at, limiter):
        await at.come("a1", "a2", "a3")
        await at.go("a2")
        await at.go("a1")
        assert at.who() == "a3"
        await at.come("a4", "a5")
        at._leave["a3"].set()
        await asyncio.sleep(0)  # a4 has got its slot now, and has not noticed
        at.tasks["a4"].cancel()
        await settle()
        assert at.who() == "a5"
        await at.go("a5")
        assert not limiter._taken


@on_a_clock
async def test_other_limits_while_they_wait() -> None:
    """Raised limits let in at once; lowered ones stop nobody and hold for who comes next."""
    async with queue(shares(parallel=1)) as (at, limiter):
        await at.come("a1", "a2", "a3", "a4")
        limiter.policy = shares(parallel=3)
        limiter.admit()
        await settle()
        assert at.who() == "a1 a2 a3"
        limiter.policy = shares(parallel=1)
        limiter.admit()
        await at.go("a1", "a2")
        assert at.who() == "a3"
        await at.go("a3")
        assert at.who() == "a4"


STEPS = st.lists(
    st.tuples(st.sampled_from(["come", "go", "still", "moves"]), st.sampled_from("abc"), st.integers(0, 5))
)


@given(STEPS, st.integers(0, 3), st.integers(0, 3))
def test_limits_hold_and_no_place_stays_empty(steps: Sequence[tuple[str, str, int]], parallel: int, share: int) -> None:
    """Whatever happens in whatever order; and each registry's pulls get their slots as they came."""

    @on_a_clock
    async def run() -> None:
        async with queue(shares(default=share, parallel=parallel)) as (at, _):
            waiting: list[str] = []
            for number, (step, registry, choice) in enumerate(steps):
                inside = list(at.inside)
                chosen = inside[choice % len(inside)] if inside else ""
                if step == "come":
                    waiting.append(f"{registry}{number}")
                    await at.come(waiting[-1])
                elif step == "go" and chosen:
                    await at.go(chosen)
                elif step == "still" and chosen:
                    at.inside[chosen].stands_still()
                elif step == "moves" and chosen:
                    at.inside[chosen].moves()
                await settle()
                entered = [name for name in waiting if name in at.inside]
                for name in entered:
                    assert not any(other[0] == name[0] for other in waiting[: waiting.index(name)])
                    waiting.remove(name)
                moving = sum(slot.moving for slot in at.inside.values())
                for host in {name[0] for name in waiting}:
                    of_host = sum(name[0] == host for name in at.inside)
                    still = sum(name[0] == host and not slot.moving for name, slot in at.inside.items())
                    assert (parallel and moving + still >= parallel) or (share and of_host >= share)

    run()


@on_a_clock
async def test_ten_hung_registries_and_the_eleventh_is_served() -> None:
    """With one slot in all: each of the silent ones gives it away after a second, long before its deadline."""
    async with setting(PullPolicy(RegistryPolicy(60), parallel=1)) as at:
        loop = asyncio.get_running_loop()
        began = loop.time()
        hung = [await at.call(f"r{number}.example/x") for number in range(10)]
        good = await at.call("good.example/x")
        assert at.phases() == ["resolving", *["queued"] * 10]
        await until(lambda: len(at.attempts) == 11)
        assert loop.time() - began < 11 * SILENCE_SECONDS
        at.attempts[10].succeed()
        assert (await good).reference.domain == "good.example"
        for task in hung:
            assert not task.done()
            await left(task)


@on_a_clock
async def test_a_pull_that_moves_again_counts_again() -> None:
    """Its slot was left to another; as soon as a byte comes, nobody new gets it."""
    async with setting(PullPolicy(RegistryPolicy(60), parallel=1)) as at:
        tasks = [await at.call(f"{host}.example/x") for host in "abc"]
        at.attempts[0].downloading(1)
        await asyncio.sleep(STANDSTILL_SECONDS + 0.1)
        assert len(at.attempts) == 2
        at.attempts[0].downloading(2)
        at.attempts[1].succeed()
        await tasks[1]
        await settle()
        assert at.phases() == ["downloading", "queued"]
        await asyncio.sleep(STANDSTILL_SECONDS + 0.1)
        assert at.phases() == ["downloading", "resolving"]
        for task in (tasks[0], tasks[2]):
            await left(task)


@on_a_clock
async def test_what_waits_for_the_store_keeps_its_slot() -> None:
    """Whoever went ahead would wait at the same door; back at its registry, it is watched as before."""
    async with setting(PullPolicy(RegistryPolicy(60), parallel=1)) as at:
        tasks = [await at.call(f"{host}.example/x") for host in "ab"]
        for phase in (Phase.UNPACKING, Phase.WAITING_FOR_STORE):
            at.attempts[0].report(PullProgress(phase, 1))
            await asyncio.sleep(100)
            assert at.phases() == [phase.value, "queued"]
        at.attempts[0].downloading(1)
        await asyncio.sleep(STANDSTILL_SECONDS + 0.1)
        assert at.phases() == ["downloading", "resolving"]
        for task in tasks:
            await left(task)


@on_a_clock
async def test_one_hung_registry_with_a_long_queue() -> None:
    """A hundred pulls of it are there already; the other registry's only one waits a few seconds."""
    async with setting(PullPolicy(RegistryPolicy(60), parallel=2)) as at:
        tasks = [await at.call(f"hung.example/x{number}") for number in range(100)]
        for attempt in at.attempts:
            attempt.downloading(10)
        began = asyncio.get_running_loop().time()
        good = await at.call("good.example/x")
        await until(lambda: any(attempt.reference.domain == "good.example" for attempt in at.attempts))
        assert asyncio.get_running_loop().time() - began < STANDSTILL_SECONDS + 0.5
        next(attempt for attempt in at.attempts if attempt.reference.domain == "good.example").succeed()
        await good
        for task in tasks:
            await left(task)


@on_a_clock
async def test_a_queued_pull_can_be_cancelled() -> None:
    """By its caller and by the operator; it never reaches the backend."""
    async with setting(shares(parallel=1)) as at:
        first, second, third = [await at.call(f"a.example/x{number}") for number in range(3)]
        await left(second)
        assert at.pulls.cancel("3")
        await asyncio.wait({third})
        at.attempts[0].succeed()
        await first
        await at.work.drain()
        assert len(at.attempts) == 1


@on_a_clock
async def test_a_reload_changes_limits_for_those_who_wait() -> None:
    """`set_policy` lets in at once whom the new limits allow; deadlines of running ones stay."""
    async with setting(PullPolicy(RegistryPolicy(60), parallel=1)) as at:
        tasks = [await at.call(f"a.example/x{number}") for number in range(3)]
        assert len(at.attempts) == 1
        at.pulls.set_policy(PullPolicy(RegistryPolicy(5), parallel=2))
        await settle()
        assert len(at.attempts) == 2
        await asyncio.sleep(0.9)
        at.attempts[0].downloading(1)
        at.attempts[1].downloading(1)
        await asyncio.sleep(6)
        assert [task.done() for task in tasks] == [False, True, False]
        for task in (tasks[0], tasks[2]):
            await left(task)
        await asyncio.wait({tasks[1]})
        assert isinstance(tasks[1].exception(), PullTimeout)


@on_a_clock
async def test_other_spellings_of_a_registry_share_its_slots() -> None:
    """Capitals, HTTPS's port and other hosts of Docker Hub in a pod's image get round no limit (N1, N2)."""
    share = RegistryPolicy(60, parallel=1)
    async with setting(PullPolicy(RegistryPolicy(60), {"reg.example": share, "docker.io": share})) as at:
        names = ["reg.example", "REG.example", "reg.example:443", "docker.io", "registry-1.docker.io", "Docker.io"]
        tasks = [await at.call(f"{host}/team/x{number}") for number, host in enumerate(names)]
        assert at.phases() == ["resolving", "queued", "queued"] * 2
        await left(tasks[0])
        await until(lambda: len(at.attempts) == 3)
        assert at.attempts[2].reference.domain == "REG.example"
        for task in tasks[1:]:
            await left(task)
