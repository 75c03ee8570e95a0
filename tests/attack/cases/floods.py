"""Much of what costs little to send."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from attack.case import case
from attack.target import LIST
from parts.raw_client import framed, grpc_headers
from parts.wire_client import literal, wire_client

if TYPE_CHECKING:
    from attack.target import Target
    from parts.raw_client import RawClient

_CALM = 11
_MEMORY_LIMIT = 400 * 2**20


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


_FRAMES = {
    "500,000 pings": (500_000, _frame(6, 0, 0, bytes(8))),
    "500,000 answers to pings": (500_000, _frame(6, 1, 0, bytes(8))),
    "300,000 settings": (300_000, _frame(4, 0, 0)),
    "300,000 empty DATA": (300_000, _frame(0, 0, 1)),
    "300,000 padded DATA": (300_000, _frame(0, 8, 1, b"\x05" + bytes(5))),
    "300,000 DATA of one byte": (300_000, _frame(0, 0, 1, b"\0")),
    "300,000 window updates": (300_000, _frame(8, 0, 0, b"\0\0\0\x01")),
    "300,000 priorities": (300_000, _frame(2, 0, 1, b"\0\0\0\x03\x10")),
    "300,000 unknown frames": (300_000, _frame(99, 0, 0, b"x")),
}


async def _cut(client: RawClient) -> None:
    async with asyncio.timeout(30):
        await client.closed.wait()
    assert client.goaway is None or client.goaway[1] == _CALM, f"closed with {client.goaway}"


def _flood(name: str, count: int, frame: bytes) -> None:
    @case("floods", name, first=name == "500,000 pings")
    async def run(target: Target) -> None:
        async with target.client() as client:
            await client.send(grpc_headers(LIST), end=False)
            for _ in range(count // 1000):
                if client.closed.is_set():
                    break
                await client.write(frame * 1000)
            await _cut(client)


for _name, (_count, _data) in _FRAMES.items():
    _flood(_name, _count, _data)


@case("floods", "100,000 rapid resets")
async def resets(target: Target) -> None:
    """A call and its reset, again and again."""
    async with target.client() as client:
        for _ in range(1000):
            if client.closed.is_set():
                break
            for _ in range(100):
                client.cancel(client.prepare(grpc_headers(LIST), end=False))
            await client.flush()
            await asyncio.sleep(0)
        await _cut(client)


@case("floods", "20,000 streams left open")
async def streams(target: Target) -> None:
    """Those that are announced, then more: refused, then cut off."""
    # The same block each time. h2 as a client would count its streams as slowly as a server might, and takes what comes
    # on those that it has not opened itself for a fault.
    block = b"".join(literal(name, str(value)) for name, value in grpc_headers(LIST))
    async with wire_client(target.server.socket) as client:
        for start in range(1, 40_000, 200):
            if client.closed.is_set():
                break
            await client.write(b"".join(_frame(1, 4, number, block) for number in range(start, start + 200, 2)))
            await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await client.closed.wait()
        assert client.goaway is None or client.goaway[1] == _CALM, f"closed with {client.goaway}"


@case("floods", "4 connections of 900 requests that never come")
async def incomplete(target: Target) -> None:
    """Within bounds they are kept, and others are served."""
    async with target.client() as a, target.client() as b, target.client() as c, target.client() as d:
        for client in (a, b, c, d):
            for _ in range(900):
                client.prepare(grpc_headers(LIST), framed(b"", announced=1000)[:5], end=False)
            await client.flush()
        assert (await target.call(LIST)).status == 0


@case("floods", "requests of 16 MiB that never end")
async def large(target: Target) -> None:
    """What is kept of them is bounded; who sends them is cut off."""
    before = target.memory()
    async with target.client() as client:
        for _ in range(8):
            await client.send(grpc_headers(LIST), framed(bytes(15 * 2**20), announced=16 * 2**20), end=False)
            if client.closed.is_set():
                break
        grown = target.memory() - before
    assert grown < _MEMORY_LIMIT, f"{grown >> 20} MiB"


@case("floods", "3,000 connections, one after another")
async def connections(target: Target) -> None:
    """Each with a call."""
    for _ in range(3000):
        assert (await target.call("/runtime.v1.RuntimeService/Version")).status == 0


@case("floods", "16 lists at once that nobody reads")
async def unread(target: Target) -> None:
    """A client that takes no answers holds up itself."""
    reader, writer = await asyncio.open_unix_connection(str(target.server.socket))
    async with target.client() as client:
        for _ in range(200):
            client.prepare(grpc_headers(LIST), framed(b""))
        writer.write(client.h2.data_to_send())
    await asyncio.sleep(0.5)
    writer.close()
    del reader
