"""Claims: a connection that is used for long takes no more memory than one that was just opened."""

from __future__ import annotations

import gc
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from criimage.metrics import NoMetrics
from criimage.server.app import Assembly
from criimage.server.http2.hardening import CLOSED_STREAMS_REMEMBERED
from criimage.server.server import _Connection
from criimage.settings import Settings
from criimage.work import Work
from parts.serving import WatchedBackend, stocked
from parts.two_ways import Sender, Transport, feed
from server.methods import STATUS, spec

if TYPE_CHECKING:
    from collections.abc import Callable

_PAGE = 4096
_READ = 20
_WARM = 3_000
_LOOKS = 3
"""What a call leaves grows with each look; what the C library or another thread takes meanwhile does not."""


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def _call(block: bytes, data: bytes, stream: int) -> bytes:
    """A call as grpcio writes it, on any stream: its block of headers means the same each time."""
    number, five = stream.to_bytes(4, "big"), b"\0\0\0\x05"
    head, rest = block[:5] + number + block[9:], data[:5] + number + data[9:]
    return b"".join((head, b"\0\0\x04\x08\0", number, five, rest, b"\0\0\x04\x08\0\0\0\0\0", five))


@pytest.mark.parametrize("calls", [3_000, pytest.param(1_000_000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
async def test_calls_answered_at_once_leave_nothing(calls: int, long_run: Callable[[str, str], None]) -> None:
    """Issue 12.1: after as many calls as one likes a connection keeps what it kept after the first thousands."""
    async with Work() as work:
        assembly = Assembly(WatchedBackend(stocked()), work, Settings(), lambda _: NoMetrics(), {})
        connection, transport, sender = _Connection(assembly.server), Transport(), Sender()
        connection.connection_made(transport)
        for _ in range(2):
            sender.call(STATUS, spec("example.com/none:1"))
        await feed(connection, bytes(sender.out))
        sender.out.clear()
        stream = sender.begin(STATUS)
        block = bytes(sender.out)
        sender.out.clear()
        sender.data(stream, b"\0\0\0\0\x16" + spec("example.com/none:1"), end=True)
        data = bytes(sender.out)
        answered = transport.written.count(b"\x0bgrpc-status\x010")
        transport.written.clear()
        made = 0

        async def make(count: int) -> None:
            nonlocal answered, made
            for number in range(made, made + count, _READ):
                streams = range(stream + 2 * number, stream + 2 * (number + _READ), 2)
                await feed(connection, b"".join(_call(block, data, one) for one in streams))
                answered += transport.written.count(b"\x0bgrpc-status\x010")
                transport.written.clear()
            made += count

        await make(_WARM)
        grown, more = 0, 0
        for _ in range(_LOOKS):
            # As a server does once it serves: else what other tests have left in this process decides how often
            # garbage is collected, and on Python 3.14 how much of it there is meanwhile.
            gc.collect()
            before, objects = _resident(), len(gc.get_objects())
            gc.freeze()
            await make(calls)
            gc.collect()
            gc.unfreeze()
            grown, more = _resident() - before, len(gc.get_objects()) - objects
            if more < 200 and grown < 2 * 2**20:
                break
        h2, reads = connection.connection._connection, connection.reads
        assert answered == made + 2
        assert reads is not None
        assert h2.highest_inbound_stream_id == stream + 2 * (made - 1)
        assert len(h2._closed_streams) <= CLOSED_STREAMS_REMEMBERED
        assert h2._open_streams(1) == 0
        assert not connection.limits._open
        assert connection.limits.requests == connection.limits.bytes == 0
        assert len(reads._known) < 40
        assert more < 200
        assert grown < 2 * 2**20
        text = f"{calls:,} calls on one connection: memory {grown / 2**20:+.1f} MiB, objects {more:+}"
        if calls > _WARM:
            long_run(f"Linux {platform.release()}", text)
        await assembly.stop()
