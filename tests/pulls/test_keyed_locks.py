"""One caller at a time for each key."""

from __future__ import annotations

import asyncio

from criimage.keyed_locks import KeyedLocks


class Counted:
    """Work of which only one at a time may go on."""

    def __init__(self) -> None:
        self.locks = KeyedLocks[str]()
        self.inside: list[str] = []
        self.most: dict[str, int] = {}
        self.going = asyncio.Semaphore(0)

    async def work(self, key: str) -> None:
        """Do some of it."""
        with self.locks.of(key) as lock:
            async with lock:
                self.inside.append(key)
                self.most[key] = max(self.most.get(key, 0), self.inside.count(key))
                await self.going.acquire()
                self.inside.remove(key)


async def test_one_at_a_time_for_each_key() -> None:
    """Also for who comes when one has just left and the next has not begun yet; other keys go on meanwhile."""
    counted = Counted()
    first, second = (asyncio.create_task(counted.work("a")) for _ in range(2))
    other = asyncio.create_task(counted.work("b"))
    await asyncio.sleep(0)
    assert sorted(counted.inside) == ["a", "b"]
    third: list[asyncio.Task[None]] = []
    first.add_done_callback(lambda _: third.append(asyncio.create_task(counted.work("a"))))
    for _ in range(4):
        counted.going.release()
    await asyncio.wait_for(asyncio.gather(first, second, other), 30)
    await asyncio.wait_for(third[0], 30)
    assert counted.most == {"a": 1, "b": 1}


async def test_nothing_is_kept() -> None:
    """A key is forgotten with the last who needs it, also where some were cancelled while they waited."""
    counted = Counted()
    tasks = [asyncio.create_task(counted.work("a")) for _ in range(5)]
    await asyncio.sleep(0)
    for task in tasks[2:4]:
        task.cancel()
    for _ in tasks:
        counted.going.release()
    done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
    assert [isinstance(one, asyncio.CancelledError) for one in done] == [False, False, True, True, False]
    assert len(counted.locks) == 0
    assert counted.most == {"a": 1}
