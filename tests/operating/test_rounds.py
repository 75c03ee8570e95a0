"""Claims: a question that many put at once is asked in rounds, one at a time, and nobody gets an answer of before."""

from __future__ import annotations

import asyncio

import pytest

from criimage.errors import OperationFailed
from criimage.rounds import Rounds
from parts.serving import until


class Asked:
    """A question that is answered by its number when it is let go.

    Attributes:
        begun: how many times it was asked.
        at_once: how many at once at most.
    """

    def __init__(self) -> None:
        self.begun = self.at_once = self._now = 0
        self.go_on = asyncio.Event()

    async def ask(self) -> int:
        """Answers with the number of the round."""
        self.begun += 1
        number = self.begun
        self._now += 1
        self.at_once = max(self.at_once, self._now)
        try:
            await self.go_on.wait()
        finally:
            self._now -= 1
        return number


async def test_who_comes_during_a_round_shares_the_next() -> None:
    """What was true before a call is seen by its answer; however many ask, one round runs and one waits."""
    asked = Asked()
    rounds = Rounds(asked.ask, "ask")
    first = [asyncio.create_task(rounds.answer()) for _ in range(3)]
    await until(lambda: asked.begun == 1)
    later = [asyncio.create_task(rounds.answer()) for _ in range(50)]
    await asyncio.sleep(0)
    asked.go_on.set()
    assert await asyncio.gather(*first) == [1] * 3
    assert await asyncio.gather(*later) == [2] * 50
    assert (asked.begun, asked.at_once) == (2, 1)
    assert await rounds.answer() == 3, "nothing is kept"


async def test_a_round_that_runs_will_do_for_who_says_so() -> None:
    """Where nothing has changed since it began, as its caller knows; without one that runs a new one begins."""
    asked = Asked()
    rounds = Rounds(asked.ask, "ask")
    first = asyncio.create_task(rounds.answer(current=True))
    await until(lambda: asked.begun == 1)
    same = asyncio.create_task(rounds.answer(current=True))
    await asyncio.sleep(0)
    asked.go_on.set()
    assert await first == await same == 1
    assert asked.begun == 1


async def test_a_caller_that_leaves_ends_no_round() -> None:
    """The others get their answer, and the next round waits for that one all the same."""
    asked = Asked()
    rounds = Rounds(asked.ask, "ask")
    leaving, staying = asyncio.create_task(rounds.answer()), asyncio.create_task(rounds.answer())
    await until(lambda: asked.begun == 1)
    leaving.cancel()
    await asyncio.wait({leaving})
    assert leaving.cancelled()
    later = asyncio.create_task(rounds.answer())
    await asyncio.sleep(0)
    asked.go_on.set()
    assert (await staying, await later, asked.at_once) == (1, 2, 1)


async def test_each_who_waited_has_an_error_of_their_own() -> None:
    """One object raised in several tasks would gather the tracebacks of all; the next round is none the worse."""
    failing = True

    async def ask() -> str:
        await asyncio.sleep(0)
        if failing:
            raise OperationFailed("no")
        return "yes"

    rounds = Rounds(ask, "ask")
    found = await asyncio.gather(rounds.answer(), rounds.answer(), return_exceptions=True)
    assert [type(one) for one in found] == [OperationFailed] * 2
    assert found[0] is not found[1]
    failing = False
    assert await rounds.answer() == "yes"


async def test_closed_they_cancel_what_runs_and_what_waits() -> None:
    """And return it, for whoever has to see its end."""
    asked = Asked()
    rounds = Rounds(asked.ask, "ask")
    waiting = [asyncio.create_task(rounds.answer())]
    await until(lambda: asked.begun == 1)
    waiting.append(asyncio.create_task(rounds.answer()))
    await asyncio.sleep(0)
    ending = rounds.close()
    assert len(ending) == 2
    await asyncio.wait(ending)
    for one in waiting:
        with pytest.raises(asyncio.CancelledError):
            await one
    assert asked.begun == 1
    assert rounds.close() == set()
