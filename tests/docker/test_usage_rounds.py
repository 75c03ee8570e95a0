"""Rounds of asking for the disk usage, whose callers come in an order that no engine gives a test."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from criimage.errors import OperationFailed
from criimage_docker.engine.answers import Refusal
from criimage_docker.view.snapshot import Snapshot
from criimage_docker.view.usage import UsageMeter
from parts.serving import until


class SlowAccount:
    """An engine whose account is there when it is told, and a view that changes with each question."""

    def __init__(self) -> None:
        self.address = SimpleNamespace(local=False)
        self.rounds: list[asyncio.Future[int]] = []

    async def snapshot(self) -> Snapshot:
        """Another one each time: whoever asks wants new figures."""
        return Snapshot(())

    async def disk_usage(self) -> dict[str, Any]:
        """Wait, and tell."""
        self.rounds.append(asyncio.get_running_loop().create_future())
        return {"LayersSize": await self.rounds[-1]}


async def test_a_caller_who_is_late_forgets_no_later_round() -> None:
    """A round that has begun between two callers of the one before goes on being the one there is, and is stopped."""
    engine = SlowAccount()
    meter = UsageMeter(cast("Any", engine), cast("Any", engine), "/")
    third: list[asyncio.Task[Any]] = []
    first = asyncio.create_task(meter.usage())
    await until(lambda: engine.rounds)
    round_one = meter._round
    assert round_one is not None
    round_one.add_done_callback(lambda _: third.append(asyncio.create_task(meter.usage())))
    second = asyncio.create_task(meter.usage())
    await asyncio.sleep(0)
    engine.rounds[0].set_result(1)
    assert [(await one).images[0].used_bytes for one in (first, second)] == [1, 1]
    await until(lambda: len(engine.rounds) == 2)
    assert meter._round is not None
    await meter.close()
    assert engine.rounds[1].cancelled()
    await asyncio.wait(third)


async def test_an_engine_that_is_asked_by_somebody_else_keeps_what_was_measured() -> None:
    """Before API 1.42 only one may ask: the figures of before count for a while, and without any it is told (F5)."""
    engine = SlowAccount()
    meter = UsageMeter(cast("Any", engine), cast("Any", engine), "/")
    busy = Refusal(500, "a disk usage operation is already running")
    asking = asyncio.create_task(meter.usage())
    await until(lambda: engine.rounds)
    engine.rounds[0].set_exception(busy)
    with pytest.raises(OperationFailed, match="cannot tell its disk usage: a disk usage operation is already running"):
        await asking
    for answer, rounds in ((7, 2), (busy, 3)):
        asking = asyncio.create_task(meter.usage())
        await until(lambda: len(engine.rounds) == rounds)  # noqa: B023 - waited for at once
        if isinstance(answer, int):
            engine.rounds[-1].set_result(answer)
        else:
            engine.rounds[-1].set_exception(answer)
        assert (await asking).images[0].used_bytes == 7
    await meter.close()
