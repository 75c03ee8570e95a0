"""One client's bytes into two servers, one that answers at once what it can and one that never does."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from unittest.mock import patch

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamReset, TrailersReceived
from h2.settings import SettingCodes

from criimage.backend import PullContext
from criimage.metrics import NoMetrics
from criimage.reference import Name
from criimage.server.app import Assembly
from criimage.server.http2 import hardening
from criimage.server.server import _Connection
from criimage.settings import Settings
from criimage.work import Work
from parts.raw_client import framed, grpc_headers
from parts.serving import WatchedBackend, stocked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from grpclib.const import Status
    from grpclib.protocol import EventsProcessor


class Waiting(WatchedBackend):
    """A backend in memory whose lists and statuses wait for a turn of the loop, or for a good while, where told to."""

    turns: Sequence[int] = (0,)

    async def images(self, pattern=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Wait, then list."""
        await self._wait()
        return await super().images(pattern)

    async def status(self, lookup, *, verbose=False):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Wait, then tell."""
        await self._wait()
        return await super().status(lookup, verbose=verbose)

    async def _wait(self) -> None:
        turns = self.turns[sum(self.calls.values()) % len(self.turns)]
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(60):
            for turn in range(turns):
                if turn % 2:
                    await asyncio.sleep(0)
                else:
                    waited: asyncio.Future[None] = loop.create_future()
                    loop.call_soon(waited.set_result, None)
                    await waited


_EARNED = 10_000


class Transport(asyncio.Transport):
    """Keeps what is written; full, it tells the protocol so as asyncio's does."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.writes = 0
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        self.writes += 1
        self.written += data

    def is_closing(self) -> bool:
        """Whether the server has closed it."""
        return self.closed

    def close(self) -> None:
        """Close it."""
        self.closed = True


@dataclass
class Seen:
    """What one server did: everything that a client or an operator can see, and what stays afterwards."""

    answers: dict[int, tuple[object, ...]] = field(default_factory=dict)
    observed: Counter[tuple[str, str, str | None]] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    state: dict[str, object] = field(default_factory=dict)
    at_once: int = 0
    left: int = 0
    """Times that anything went the long way though it might have gone the short one."""


class Observer:
    """Counts what the server's observer is told."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.ended_calls: Counter[tuple[str, str, str | None]] = Counter()

    reads_headers: frozenset[bytes] = frozenset()

    def began(self, operation: str, path: str, header: Callable[[str], str]) -> None:
        """Count."""
        self.begun[operation] += 1

    def ended(self, operation: str, status: Status, error: BaseException | None, seconds: float) -> None:
        """Count."""
        assert seconds >= 0
        self.ended_calls[operation, status.name, type(error).__name__ if error else None] += 1


async def feed(connection: _Connection, data: bytes) -> None:
    """Gives bytes to a connection as a socket does: from a callback of the loop, in no task."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def read() -> None:
        connection.data_received(data)
        done.set_result(None)

    loop.call_soon(read)
    await done


async def serve(reads: Sequence[bytes], turns: Sequence[int], pauses: int, *, at_once: bool) -> Seen:
    """Feeds reads to a new server, lets it come to rest, and tells what it did.

    Args:
        reads: each one what a socket gives at once.
        turns: how many turns of the loop the backend's calls take, one after the other and again.
        pauses: how many turns there are between two reads.
        at_once: whether calls may be answered at once.
    """
    backend = Waiting(stocked())
    with ExitStack() as stack:
        return await _serve(backend, reads, turns, pauses, stack, at_once=at_once)


async def _serve(
    backend: Waiting, reads: Sequence[bytes], turns: Sequence[int], pauses: int, stack: ExitStack, *, at_once: bool
) -> Seen:
    async with Work() as work:
        assembly = Assembly(backend, work, Settings(), lambda _: NoMetrics(), {})
        await assembly.pulls.pull(Name.parse("example.com/a:1"), None, PullContext())
        backend.calls.clear()
        backend.turns = turns
        server = assembly.server
        server.observer = observer = Observer()
        connection, transport = _Connection(server), Transport()
        connection.connection_made(transport)
        # A frame is charged to what answers have earned while there is any: whether it comes before an answer or after
        # it shall make no difference, as there is always some.
        connection.limits._earned = _EARNED
        if not at_once:
            connection.reads = None
            stack.enter_context(patch.object(hardening, "write_reply_of", reply_by_h2))
        counted, left = _count_at_once(connection), _count_left(connection)
        await asyncio.sleep(0)
        for data in reads:
            if not transport.closed:
                await feed(connection, data)
            for _ in range(pauses):
                await asyncio.sleep(0)
        for _ in range(400):
            await asyncio.sleep(0)
        seen = Seen(_answers(bytes(transport.written)), observer.ended_calls, backend.calls)
        assert +observer.begun == Counter(
            {name: sum(n for key, n in observer.ended_calls.items() if key[0] == name) for name in observer.begun}
        )
        seen.state = {} if transport.closed else _state(connection)
        seen.state["closed"] = transport.closed
        seen.at_once, seen.left = counted(), left()
        await assembly.stop()
    return seen


def reply_by_h2(h2: H2Connection, stream: int, message: bytes, _flush: object = None) -> bool:
    """Answers with h2's own frames, in place of `write_reply_of`."""
    if len(message) + 5 > min(h2.local_flow_control_window(stream), h2.max_outbound_frame_size):
        return False
    h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
    h2.send_data(stream, framed(message))
    h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
    return True


def _count_at_once(connection: _Connection) -> Callable[[], int]:
    found: list[object] = []
    told = connection.calls.answered

    def answered(method, begun) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        found.append(method)
        told(method, begun)

    connection.calls.answered = answered  # type: ignore[method-assign]
    return lambda: len(found)


def _count_left(connection: _Connection) -> Callable[[], int]:
    found: list[int] = []
    reads = connection.reads
    if reads is not None:
        way = reads._long_way

        def leave(data: bytes) -> None:
            found.append(len(data))
            way(data)

        reads._long_way = leave
    return lambda: len(found)


def _state(connection: _Connection) -> dict[str, object]:
    h2, limits = connection.connection._connection, connection.limits
    window = h2._inbound_flow_control_window_manager
    processor: EventsProcessor = connection.processor
    assert h2.open_inbound_streams >= 0  # drops those that are closed
    return {
        "highest": h2.highest_inbound_stream_id,
        "inbound": (window.current_window_size + window._bytes_processed),
        "outbound": h2.outbound_flow_control_window,
        "streams": sorted(number for number, stream in h2.streams.items() if not stream.closed),
        "processed": sorted(processor.streams),
        "calls": connection.calls.count,
        "requests": limits.requests,
        "bytes": limits.bytes,
        "open": sorted(limits._open),
        "earned": limits._earned,
        "table": list(h2.decoder.header_table.dynamic_entries),
        "table size": h2.decoder.header_table.maxsize,
        "connection": h2.state_machine.state,
        "unsent": bytes(h2._data_to_send),
        "table of answers": h2.encoder.header_table.maxsize,
        "not told yet": list(h2.encoder.table_size_changes),
        "settings": h2.remote_settings.initial_window_size,
    }


def _answers(written: bytes) -> dict[int, tuple[object, ...]]:  # noqa: C901 - one event after the other
    """Return what came on each stream, as any client would read it."""
    client = H2Connection(H2Configuration(header_encoding="latin-1", validate_inbound_headers=False))
    client.initiate_connection()
    client.local_settings.max_header_list_size = 2**20
    client.increment_flow_control_window(2**30)
    client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 2**30})
    client.local_settings.acknowledge()
    position, found = 0, {}
    parts: dict[int, list[object]] = {}
    while position < len(written):
        size = int.from_bytes(written[position : position + 3], "big")
        kind, stream = written[position + 3], int.from_bytes(written[position + 5 : position + 9], "big")
        frame = written[position : position + 9 + size]
        position += 9 + size
        if kind == 7:
            parts.setdefault(0, []).append(("goaway", frame[9:]))
            continue
        if stream and stream not in client.streams and stream not in parts:
            while client.get_next_available_stream_id() <= stream:
                number = client.get_next_available_stream_id()
                client.send_headers(number, grpc_headers("/"), end_stream=True)
                parts.setdefault(number, [])
        for event in client.receive_data(frame):
            match event:
                case ResponseReceived() | TrailersReceived():
                    parts[event.stream_id].append(sorted(event.headers))
                case DataReceived():
                    seen = parts[event.stream_id]
                    if seen and isinstance(seen[-1], bytes):
                        seen[-1] += event.data
                    else:
                        seen.append(event.data)
                case StreamReset():
                    parts[event.stream_id].append(("reset", int(event.error_code)))
    for stream, seen in parts.items():
        found[stream] = tuple(map(str, seen))
    return {stream: seen for stream, seen in found.items() if seen}


class Sender:
    """Makes a client's bytes, one act at a time."""

    def __init__(self) -> None:
        self.h2 = H2Connection(
            H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding=None)
        )
        self.h2.initiate_connection()
        self.waiting: list[tuple[int, bytes]] = []
        self.out = bytearray()
        self._take()

    def _take(self) -> None:
        self.out += self.h2.data_to_send()

    def call(self, path: str, message: bytes, changes: Mapping[str, str | bytes | None] | None = None) -> int:
        """A whole call."""
        stream = self.begin(path, changes)
        self.h2.send_data(stream, framed(message), end_stream=True)
        self._take()
        return stream

    def begin(self, path: str, changes: Mapping[str, str | bytes | None] | None = None) -> int:
        """Only the headers of one."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.remote_settings.max_concurrent_streams = 10_000
        self.h2.send_headers(stream, grpc_headers(path, changes))
        self._take()
        return stream

    def data(self, stream: int, data: bytes, *, end: bool) -> None:
        """A piece of a request."""
        self.h2.send_data(stream, data, end_stream=end)
        self._take()

    def frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Any frame."""
        self.out += len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload

    def setting(self, key: int, value: int) -> None:
        """A SETTINGS frame with one value."""
        self.frame(4, 0, 0, key.to_bytes(2, "big") + value.to_bytes(4, "big"))
