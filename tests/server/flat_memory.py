"""Makes so many calls on one connection of a server without sockets, and tells what the connection has kept.

A program, for a process of its own: what other tests have left in a process makes objects while the calls are made.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from pathlib import Path

from criimage.metrics import NoMetrics
from criimage.server.app import Assembly
from criimage.server.http2.hardening import CLOSED_STREAMS_REMEMBERED
from criimage.server.server import _Connection
from criimage.settings import Settings
from criimage.work import Work
from parts.serving import WatchedBackend, stocked
from parts.two_ways import Sender, Transport, feed
from server.methods import STATUS, spec

_PAGE = 4096
_READ = 20
_WARM = 3_000
_LOOKS = 3
"""What a call leaves grows with each look; what the C library takes meanwhile does not."""
OBJECTS, BYTES = 200, 2 * 2**20
"""What a look may find more than there was."""
_ANSWERED = b"\x0bgrpc-status\x010"
_NAME = "example.com/none:1"


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


class Caller:
    """A client's end of one connection, over which the same call is made again and again, twenty in a read."""

    def __init__(self, assembly: Assembly) -> None:
        self.connection, self._transport, self._sender = _Connection(assembly.server), Transport(), Sender()
        self.made = self.answered = 0

    async def begin(self) -> None:
        """Opens the connection, and finds out how the call looks once the tables of both ends know it."""
        self.connection.connection_made(self._transport)
        for _ in range(2):
            self._sender.call(STATUS, spec(_NAME))
        await feed(self.connection, self._taken())
        self.before = self._count()
        self.stream = self._sender.begin(STATUS)
        self._block = self._taken()
        self._sender.data(self.stream, b"\0\0\0\0\x16" + spec(_NAME), end=True)
        self._data = self._taken()

    async def make(self, count: int) -> None:
        """Makes calls."""
        for number in range(self.made, self.made + count, _READ):
            streams = range(self.stream + 2 * number, self.stream + 2 * (number + _READ), 2)
            await feed(self.connection, b"".join(map(self._call, streams)))
            self.answered += self._count()
        self.made += count

    def check(self) -> None:
        """Asserts that every call was answered, and that nothing that is kept for each is more than its bound."""
        h2, reads, limits = self.connection.connection._connection, self.connection.reads, self.connection.limits
        assert (self.before, self.answered) == (2, self.made)
        assert reads is not None
        assert h2.highest_inbound_stream_id == self.stream + 2 * (self.made - 1)
        assert len(h2._closed_streams) <= CLOSED_STREAMS_REMEMBERED
        assert h2._open_streams(1) == 0
        assert not limits._open
        assert limits.requests == limits.bytes == 0
        assert len(reads._known) < 40

    def _call(self, stream: int) -> bytes:
        # As grpcio writes it, on any stream: its block of headers means the same each time.
        number, five = stream.to_bytes(4, "big"), b"\0\0\0\x05"
        head = self._block[:5] + number + self._block[9:]
        rest = self._data[:5] + number + self._data[9:]
        return b"".join((head, b"\0\0\x04\x08\0", number, five, rest, b"\0\0\x04\x08\0\0\0\0\0", five))

    def _taken(self) -> bytes:
        taken = bytes(self._sender.out)
        self._sender.out.clear()
        return taken

    def _count(self) -> int:
        found = self._transport.written.count(_ANSWERED)
        self._transport.written.clear()
        return found


async def _measure(calls: int) -> dict[str, int]:
    async with Work() as work:
        assembly = Assembly(WatchedBackend(stocked()), work, Settings(), lambda _: NoMetrics(), {})
        caller = Caller(assembly)
        await caller.begin()
        await caller.make(_WARM)
        found = {"bytes": 0, "objects": 0}
        for _ in range(_LOOKS):
            # As a server does once it serves.
            gc.collect()
            before, objects = _resident(), len(gc.get_objects())
            gc.freeze()
            await caller.make(calls)
            gc.unfreeze()
            # Like the first time: a tuple of what no collection looks at is no object any more after one of its own.
            gc.collect()
            found = {"bytes": _resident() - before, "objects": len(gc.get_objects()) - objects}
            if found["objects"] < OBJECTS and found["bytes"] < BYTES:
                break
        caller.check()
        await assembly.stop()
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_measure(int(sys.argv[1])))))
