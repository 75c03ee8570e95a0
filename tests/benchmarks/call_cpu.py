"""Measures the server's own CPU for a call: a client's bytes are fed to its protocol, without sockets.

    python -m benchmarks.call_cpu [--path ImageStatus] [--together 16] [--deadline] [--stacks FILE]

Runs on the backend in memory, whose own share is small, or on containers-storage with `--store` and a store's root.
What is counted is the time of this process's CPU between the first byte of a call and the last of its answer, the event
loop's own turns included, those of the kernel for sockets left out. It is called in the folder `tests`.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import random
import signal
import statistics
import struct
import sys
import tempfile
import time
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import H2Connection

from benchmarks.levers import LEVERS, without
from criimage import logs, metrics
from criimage.metrics import NoMetrics, PrometheusMetrics
from criimage.plugins import load
from criimage.server.app import Assembly
from criimage.server.server import _Connection
from criimage.settings import Settings
from criimage.testing.memory import MemoryBackend, Registry, RemoteImage
from criimage.work import Work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import FrameType

_SERVICES = {"Version": "Runtime", "Status": "Runtime"}
_WIDTH, _ROW = 1200.0, 15


def main() -> None:
    """Measures one kind of call and prints its CPU in microseconds."""
    parser = argparse.ArgumentParser(description="Measure the server's own CPU for a call, without sockets.")
    parser.add_argument("--path", default="ImageStatus", help="method")
    parser.add_argument("--image", default="registry.example.com/team/app-7:1", help="what is asked for")
    parser.add_argument("--together", type=int, default=1, help="calls in one read")
    parser.add_argument("--deadline", action="store_true", help="with another deadline in each call, as grpc-go")
    parser.add_argument("--windows", action="store_true", help="with two window updates in each call, as grpcio")
    parser.add_argument("--calls", type=int, default=6000, help="calls of a round")
    parser.add_argument("--rounds", type=int, default=5, help="the median counts")
    parser.add_argument("--store", type=Path, help="root of a store with the driver vfs")
    parser.add_argument("--metrics", action="store_true", help="count for Prometheus too")
    parser.add_argument("--flame", type=Path, help="draw a flame graph there, as SVG")
    parser.add_argument("--without", action="append", default=[], choices=LEVERS, help="a lever to do without")
    parser.add_argument(
        "--levers", action="store_true", help="a table: each lever away alone, in turn, and all of them"
    )
    arguments = parser.parse_args()
    logs.set_up("warning", "text")
    if arguments.levers:
        _levers(arguments)
        return
    with ExitStack() as stack:
        for lever in without(arguments.without):
            stack.enter_context(lever)
        asyncio.run(_measure(arguments))


def _levers(arguments: argparse.Namespace) -> None:
    """Prints what a call takes without each lever alone, and without all; every round has all of these in turn."""
    *alone, last = LEVERS
    sides = {"everything": [], **{f"without {name}": [name] for name in alone}}
    sides[f"without {alone[-1]} {last}"] = [alone[-1], last]
    sides["without any"] = [*alone, last]
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(arguments.rounds + 1):
        for name, levers in sides.items():
            with ExitStack() as stack:
                for lever in without(levers):
                    stack.enter_context(lever)
                seconds = asyncio.run(_once(arguments))
            if number:  # the first one warms up
                found[name].append(seconds / arguments.calls * 1e6)
    base = statistics.median(found["everything"])
    sys.stdout.write("| | us of CPU | ratio |\n| --- | ---: | ---: |\n")
    for name, values in found.items():
        median = statistics.median(values)
        sys.stdout.write(f"| {name} | {median:.0f} | {median / base:.2f} |\n")


async def _once(arguments: argparse.Namespace) -> float:
    async with _assembly(arguments) as assembly:
        return await _round(assembly, arguments, None)


async def _measure(arguments: argparse.Namespace) -> None:
    async with _assembly(arguments) as assembly:
        found = []
        sampler = _Sampler()
        for number in range(arguments.rounds + 1):
            seconds = await _round(assembly, arguments, sampler if number and arguments.flame else None)
            if number:  # the first one warms up
                found.append(seconds / arguments.calls * 1e6)
        found.sort()
        if arguments.flame:
            arguments.flame.write_text(
                sampler.drawn(f"{arguments.path}: {found[len(found) // 2]:.0f} us of CPU a call")
            )
        sys.stdout.write(
            f"{arguments.path}, {arguments.together} in a read: {found[len(found) // 2]:.1f} us of CPU a call "
            f"({found[0]:.1f} to {found[-1]:.1f})\n"
        )


async def _round(assembly: Assembly, arguments: argparse.Namespace, sampler: _Sampler | None) -> float:
    connection = _Connection(assembly.server)
    transport = _Transport()
    connection.connection_made(transport)
    client = _Client(arguments)
    done = asyncio.get_running_loop().create_future()
    reads = [client.hello(), client.calls(1)]
    reads += [client.calls(arguments.together) for _ in range(arguments.calls // arguments.together)]
    feeder = _Feeder(connection, transport, reads, 1 + arguments.calls // arguments.together * arguments.together, done)
    began = time.process_time()
    if sampler:
        sampler.start()
    feeder.feed()
    await done
    if sampler:
        sampler.stop()
    seconds = time.process_time() - began
    connection.connection_lost(None)
    await asyncio.sleep(0)
    return seconds


class _Feeder:
    """Gives the next read to the connection when the last one's calls are answered, as a socket would."""

    def __init__(
        self,
        connection: _Connection,
        transport: _Transport,
        reads: list[bytes],
        expected: int,
        done: asyncio.Future[None],
    ) -> None:
        self._connection, self._transport, self._done = connection, transport, done
        self._reads = iter(reads)
        self._loop = asyncio.get_running_loop()
        self._expected = expected

    def feed(self) -> None:
        if not self._connection.calls.count:
            data = next(self._reads, None)
            if data is None:
                if self._transport.answered < self._expected:
                    raise RuntimeError(f"{self._transport.answered} of {self._expected} calls were answered")
                self._done.set_result(None)
                return
            self._connection.data_received(data)
        # The callback of a reading socket: in no task.
        self._loop.call_soon(self.feed)


class _Client:
    """What a client would send: headers that go into HPACK's table once, windows that never close."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        service = _SERVICES.get(arguments.path, "Image")
        self._headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", f"/runtime.v1.{service}Service/{arguments.path}"),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("user-agent", "grpc-go/1.72.0"),
            ("te", "trailers"),
        ]
        spec = arguments.image.encode()
        request = b"\x0a" + bytes((len(spec) + 2,)) + b"\x0a" + bytes((len(spec),)) + spec
        self._body = b"" if arguments.path != "ImageStatus" else request
        self._body = struct.pack(">BI", 0, len(self._body)) + self._body
        self._deadline, self._windows = arguments.deadline, arguments.windows
        self._h2 = H2Connection(H2Configuration(validate_outbound_headers=False))

    def hello(self) -> bytes:
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(2**30)
        return bytes(self._h2.data_to_send())

    def calls(self, count: int) -> bytes:
        found: list[bytes] = []
        for _ in range(count):
            stream = self._h2.get_next_available_stream_id()
            timeout = [("grpc-timeout", f"{random.randrange(10**7, 10**8)}u")] if self._deadline else []  # noqa: S311
            self._h2.remote_settings.max_concurrent_streams = 2**30
            self._h2.outbound_flow_control_window = 2**30
            self._h2.send_headers(stream, [*self._headers, *timeout])
            head = self._h2.data_to_send()
            self._h2.send_data(stream, self._body, end_stream=True)
            data = self._h2.data_to_send()
            self._h2.streams.clear()
            updates = (_window_update(stream), _window_update(0)) if self._windows else (b"", b"")
            found += [head, updates[0], data, updates[1]]
        return b"".join(found)


def _window_update(stream: int) -> bytes:
    return struct.pack(">HBBBII", 0, 4, 8, 0, stream, 5)


class _Transport(asyncio.Transport):
    """Takes what is written and counts the trailers in it."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        position = 0
        while position < len(data):
            size = data[position] << 16 | data[position + 1] << 8 | data[position + 2]
            self.answered += data[position + 3] == 1 and data[position + 4] & 1
            position += 9 + size

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass


class _Sampler:
    """Notes where the process is, each time that it has used a millisecond of CPU, and draws that."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, ...], int] = {}

    def start(self) -> None:
        signal.signal(signal.SIGPROF, self._note)
        signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _note(self, _signal: int, frame: FrameType | None) -> None:
        names: list[str] = []
        while frame is not None:
            code = frame.f_code
            if code.co_name == "_run":  # the loop's handles: what is below is the same for all
                break
            names.append(f"{Path(code.co_filename).parent.name}/{Path(code.co_filename).stem}.{code.co_name}")
            frame = frame.f_back
        stack = tuple(reversed(names))
        self._found[stack] = self._found.get(stack, 0) + 1

    def drawn(self, title: str) -> str:
        """Return a flame graph: width is CPU, what is called stands below its caller."""
        boxes: dict[tuple[str, ...], int] = {}
        for stack, count in self._found.items():
            for depth in range(len(stack) + 1):
                boxes[stack[:depth]] = boxes.get(stack[:depth], 0) + count
        total = boxes[()]
        shown = {path: count for path, count in boxes.items() if count * 1000 >= total * 2}
        lines = []
        used: dict[tuple[str, ...], float] = {(): 0.0}
        for path in sorted(shown, key=lambda path: (len(path), path)):
            width = shown[path] / total * _WIDTH
            left = used[path[:-1]] if path else 0.0
            if path:
                used[path[:-1]] += width
            used[path] = left
            name = path[-1] if path else title
            top, hue = len(path) * _ROW + 2, sum(map(ord, name.partition("/")[0])) % 360
            lines.append(
                f'<g><title>{html.escape(name)} {shown[path] / total:.1%}</title><rect x="{left:.1f}" y="{top}" '
                f'width="{width:.1f}" height="{_ROW - 1}" fill="hsl({hue},60%,75%)"/>'
                f'<text x="{left + 2:.1f}" y="{top + _ROW - 5}">{html.escape(name[: int(width / 6.2)])}</text></g>'
            )
        height = (max(map(len, shown)) + 1) * _ROW + 4
        head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        return head + 'font-family="monospace" font-size="10">\n' + "\n".join(lines) + "\n</svg>\n"


@asynccontextmanager
async def _assembly(arguments: argparse.Namespace) -> AsyncIterator[Assembly]:
    def figures(operations: list[str]) -> metrics.Metrics:
        return PrometheusMetrics("memory", operations, metrics.error_kinds()) if arguments.metrics else NoMetrics()

    if arguments.store is None:
        registry = Registry()
        memory = MemoryBackend(registry)
        for number in range(100):
            name = f"registry.example.com/team/app-{number}:1"
            registry.put(name, RemoteImage(f"app {number}"))
        async with Work() as work:
            assembly = Assembly(memory, work, Settings(), figures, {})
            for number in range(100):
                from criimage.backend import PullContext
                from criimage.reference import Name

                await assembly.pulls.pull(Name.parse(f"registry.example.com/team/app-{number}:1"), None, PullContext())
            yield assembly
        return
    plugin = load("containers-storage")
    with tempfile.TemporaryDirectory() as folder:
        values = {"root": str(arguments.store), "run_root": folder, "driver": "vfs", "tmp_dir": folder}
        async with plugin.open(plugin.settings_model(**values)) as backend, Work() as work:
            yield Assembly(backend, work, Settings(), figures, {})


if __name__ == "__main__":
    main()
