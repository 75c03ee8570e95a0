"""Frames that the short way (`criimage.server.http2.hot`) takes to its middle and must then leave to the long one.

Each is sent between ordinary calls, which are answered; what HTTP/2 forbids ends with an error of its stream or its
connection, whose code is one of those that RFC 9113 names for it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from attack.call_frames import BEGUN, call, data, window
from attack.case import case
from attack.sequences import SEQUENCES, Sequence
from parts.wire_client import wire_client

if TYPE_CHECKING:
    from attack.target import Target
    from parts.raw_client import Answer
    from parts.wire_client import WireClient

_SECONDS = 30.0
_FAULTS = ("Traceback", "could not be processed")


def _case(name: str, sequence: Sequence) -> None:
    @case("hot", name, first=name == "a continuation")
    async def run(target: Target) -> None:
        size = len(await asyncio.to_thread(target.server.log_text))
        async with wire_client(target.server.socket) as client:
            await _begin(client)
            for piece in sequence.sent:
                await client.write(piece)
                await asyncio.sleep(0)
            await _judge(client, sequence)
        said = (await asyncio.to_thread(target.server.log_text))[size:]
        assert not any(fault in said for fault in _FAULTS), said[-2000:]


for _name, _sequence in SEQUENCES.items():
    _case(_name, _sequence)


async def _begin(client: WireClient) -> None:
    await client.write(call(1 - BEGUN))
    assert (await _finished(client, 1 - BEGUN)).status == 0


async def _finished(client: WireClient, stream: int) -> Answer:
    answer = client.answer(stream + BEGUN)
    async with asyncio.timeout(_SECONDS):
        await answer.done.wait()
    return answer


async def _judge(client: WireClient, sequence: Sequence) -> None:
    for stream in sequence.answered:
        answer = await _finished(client, stream)
        assert answer.status == 0, f"stream {stream}: {answer}, {client.goaway}"
    for stream in sequence.ends:
        await _finished(client, stream)
    if sequence.fails:
        async with asyncio.timeout(_SECONDS):
            await client.closed.wait()
        assert client.goaway is not None, "closed without a word"
        assert client.goaway[1] in sequence.fails, f"ended with {client.goaway}"
    elif not sequence.ends or sequence.ends != (5,):
        assert not client.closed.is_set(), f"ended with {client.goaway}"


@case("hot", "answers beyond the connection's window, opened bit by bit")
async def exhausted(target: Target) -> None:
    """As many as fit are answered, the others one after the other as there is room; none is lost or cut short."""
    count = 3000
    async with wire_client(target.server.socket) as client:
        await _begin(client)
        for first in range(0, count, 100):
            await client.write(b"".join(call(2 * number + 1) for number in range(first, first + 100)))
            await asyncio.sleep(0)
            # Those that wait are answered before there are too many of them.
            while sum(not client.answer(2 * number + 1 + BEGUN).done.is_set() for number in range(first + 100)) > 500:
                await client.write(window(0, 997))
                await asyncio.sleep(0.001)
                assert not client.closed.is_set(), client.goaway
        async with asyncio.timeout(_SECONDS):
            while not all(client.answer(2 * number + 1 + BEGUN).done.is_set() for number in range(count)):
                await client.write(window(0, 9973))
                await asyncio.sleep(0.01)
        statuses = {client.answer(2 * number + 1 + BEGUN).status for number in range(count)}
        sizes = {len(client.answer(2 * number + 1 + BEGUN).data) for number in range(count)}
        assert statuses == {0}, statuses
        assert len(sizes) == 1, sizes


@case("hot", "a thousand calls in one read, one of which is forbidden")
async def in_the_midst(target: Target) -> None:
    """Those before it are answered before the connection ends."""
    before = b"".join(call(2 * number + 1) for number in range(500))
    after = b"".join(call(2 * number + 1) for number in range(501, 1000))
    async with wire_client(target.server.socket) as client:
        await _begin(client)
        await client.write(before + data(1001) + after)
        async with asyncio.timeout(_SECONDS):
            await client.closed.wait()
        unanswered = [number for number in range(500) if client.answer(2 * number + 1 + BEGUN).status != 0]
        assert not unanswered, f"{len(unanswered)} of 500 have no answer"
        assert client.goaway is not None, "closed without a word"
