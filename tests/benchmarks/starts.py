"""Starts, and what a server takes of the memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.calls import BARE, bare_server, path_and_request
from benchmarks.client import LIST, PULL, VERSION, together
from benchmarks.processes import descendants, resident
from benchmarks.results import Key
from benchmarks.run import in_turn
from parts.criimage_process import criimage

if TYPE_CHECKING:
    from benchmarks.run import Run

IDLE, LOADED = "idle", "after load"
_IDLE_SECONDS = 0.5
_MEMORY_ROUNDS = 3


def first_list(images: int) -> str:
    """What a start is called in the results."""
    return f"first list, {images} images"


def memory(when: str, images: int) -> str:
    """What the memory of a server is called in the results; the processes it keeps are told apart."""
    return f"{when}, {images} images"


def starts(run: Run) -> None:
    """From the start of the process to the first list with every image in it; the bare server's first Version."""
    for number in run.options.numbers:
        for side in in_turn([BARE, *run.node.backends], number):
            seconds = _bare(run) if side == BARE else _start(run, side)
            if number >= 0:  # the round before the first one warms up
                run.results.add(Key("start", first_list(run.images), side), "ms", seconds * 1000)


def _bare(run: Run) -> float:
    began = time.monotonic()
    with bare_server() as (place, _):
        return run.client.first(place, VERSION) - began


def _start(run: Run, backend: str) -> float:
    began = time.monotonic()
    with criimage(run.node.config(backend)) as server:
        return run.client.first(server.endpoint, LIST, run.images) - began


def memories(run: Run) -> None:
    """Resident memory after the first list, and after calls and pulls: the server alone, what it has started apart."""
    for _ in range(min(run.options.rounds, _MEMORY_ROUNDS)):
        with bare_server() as (place, bare):
            run.client.first(place, VERSION)
            time.sleep(_IDLE_SECONDS)
            run.results.add(Key("memory", memory(IDLE, run.images), BARE), "MiB", resident(bare.pid))
        for backend in run.node.backends:
            _memory(run, backend)


def _memory(run: Run, backend: str) -> None:
    with criimage(run.node.config(backend)) as server:
        run.client.first(server.endpoint, LIST, run.images)
        time.sleep(_IDLE_SECONDS)
        process = server.process.pid
        _note(run, backend, IDLE, process)
        names = run.node.names[: run.options.pulls]
        for call in ("ImageStatus", "ListImages", "ImageFsInfo"):
            path, request = path_and_request(call, names[0])
            together(run.clients, server.endpoint, path, request, 4, run.options.load / 3)
        run.client.each(server.endpoint, PULL, names, in_flight=4)
        time.sleep(_IDLE_SECONDS)
        _note(run, backend, LOADED, process)


def _note(run: Run, backend: str, when: str, process: int) -> None:
    what = memory(when, run.images)
    run.results.add(Key("memory", what, backend), "MiB", resident(process))
    started = sum(resident(one) for one in descendants(process))
    run.results.add(Key("memory", f"{what}: processes it keeps", backend), "MiB", started)
