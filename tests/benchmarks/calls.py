"""Calls that change nothing: one at a time, many at once, what they take of a processor, and relayed ones."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.client import IMAGES, RUNTIME, image_request, together
from benchmarks.node import CRI
from benchmarks.results import Key
from benchmarks.run import in_turn
from parts.child import Child, child

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.run import Run

BARE = "bare server"
RELAYED = ("Version", "Status", "ListPodSandbox", "ListContainers")
OF_IMAGES = ("ImageStatus", "ImageFsInfo", "ListImages")
OF_RUNTIME = ("Version", "Status")
WITHOUT_SOCKETS = "ImageStatus without sockets"
_TESTS = Path(__file__).parent.parent
_MICROSECONDS_TEXT = re.compile(r"([0-9.]+) us of CPU a call")
_PROCESSOR_SECONDS = 5
_TICK = os.sysconf("SC_CLK_TCK")
_MICROSECONDS = 1e6


def with_images(call: str, images: int) -> str:
    """What a call with this many images in the store is called in the results."""
    return f"{call}, {images} images"


def path_and_request(call: str, image: str) -> tuple[str, bytes]:
    """A call's path and request; `image` is what ImageStatus is asked for."""
    if call in OF_IMAGES:
        return f"{IMAGES}/{call}", image_request(image) if call == "ImageStatus" else b""
    return f"{RUNTIME}/{call}", b""


@contextlib.contextmanager
def bare_server() -> Iterator[tuple[str, Child]]:
    """Runs the least that a gRPC server in Python can be; gives its endpoint and process."""
    with tempfile.TemporaryDirectory(prefix="criimage-bare-") as folder:
        place = Path(folder, "socket")
        command = [sys.executable, str(Path(__file__).with_name("bare_server.py")), f"unix://{place}"]
        with child("bare server", command, Path(folder, "log")) as process:
            process.wait_until(place.exists, seconds=20)
            yield f"unix://{place}", process


def one_at_a_time(run: Run) -> None:
    """The median time of each call with one in flight."""
    calls = list(OF_IMAGES)
    with bare_server() as (bare, _):
        places = {name: server.endpoint for name, server in run.node.servers.items()}
        if run.images == run.options.usual:
            # They do not depend on the number of images.
            calls += OF_RUNTIME
        for number in run.options.numbers:
            for call in calls:
                sides = {**places, BARE: bare} if call == "Version" else places
                path, request = path_and_request(call, run.node.names[0])
                what = call if call in OF_RUNTIME else with_images(call, run.images)
                _turns(run, number, "calls", what, sides, path, request)


def _turns(run: Run, number: int, part: str, what: str, sides: Mapping[str, str], path: str, request: bytes) -> None:
    order = in_turn(list(sides), number)
    times = run.client.turns([sides[side] for side in order], path, request, run.options.seconds)
    if number < 0:  # the round before the first one warms up
        return
    for side, (p50, fast) in zip(order, times, strict=True):
        run.results.add(Key(part, what, side), "ms", p50 * 1000)
        # What is left where nobody else has the processor, also on a machine that others keep busy.
        run.results.add(Key(part, f"{what}, fastest tenth", side), "ms", fast * 1000)


def at_once(run: Run) -> None:
    """Calls that are answered in a second, with 16 in flight from four processes."""
    each = 4
    for number in run.options.numbers:
        for call in (*OF_IMAGES, *OF_RUNTIME):
            path, request = path_and_request(call, run.node.names[0])
            for side in in_turn(list(run.node.servers), number):
                place = run.node.servers[side].endpoint
                rate = together(run.clients, place, path, request, each, run.options.seconds * 2)
                if number >= 0:
                    what = call if call in OF_RUNTIME else with_images(call, run.images)
                    run.results.add(Key("throughput", what, side), "calls/s", rate)


def relayed(run: Run) -> None:
    """What a call costs through criimage and at the runtime itself."""
    sides = {"direct": run.node.runtime.endpoint, "relayed": run.node.servers[CRI].endpoint}
    for number in run.options.numbers:
        for call in RELAYED:
            _turns(run, number, "relay", call, sides, f"{RUNTIME}/{call}", b"")


@dataclass(frozen=True, slots=True)
class _Used:
    user: float
    kernel: float

    @classmethod
    def by(cls, process: int) -> _Used:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return cls(int(fields[11]) / _TICK, int(fields[12]) / _TICK)


def processor(run: Run) -> None:
    """What a call takes of a processor, the server's process alone, with one in flight.

    The kernel counts in hundredths of a second: the time of each round is long enough that one of them is little.
    """
    _without_sockets(run)
    for number in range(run.options.rounds):
        for call in ("ImageStatus", "ListImages"):
            path, request = path_and_request(call, run.node.names[0])
            for side in in_turn(list(run.node.servers), number):
                server = run.node.servers[side]
                before = _Used.by(server.process)
                calls = run.client.calls(server.endpoint, path, request, run.options.seconds * _PROCESSOR_SECONDS)
                after = _Used.by(server.process)
                what = with_images(call, run.images)
                user, kernel = after.user - before.user, after.kernel - before.kernel
                run.results.add(Key("processor", f"{what}, user", side), "us", user / calls * _MICROSECONDS)
                run.results.add(Key("processor", f"{what}, all", side), "us", (user + kernel) / calls * _MICROSECONDS)


def _without_sockets(run: Run) -> None:
    for _ in range(run.options.rounds):
        command = [sys.executable, "-m", "benchmarks.call_cpu", "--path", "ImageStatus", "--windows", "--rounds", "1"]
        command += [f"--calls={run.options.calls}"]
        text = subprocess.run(command, check=True, capture_output=True, text=True, cwd=_TESTS).stdout
        found = _MICROSECONDS_TEXT.search(text)
        if found is None:
            raise ValueError(f"call_cpu says {text!r}")
        run.results.add(Key("processor", WITHOUT_SOCKETS, "memory"), "us", float(found[1]))
