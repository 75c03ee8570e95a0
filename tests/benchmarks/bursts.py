"""Many pulls at once beside the bare tool's: unchanged images, new ones, and their removals."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from benchmarks.client import LIST, PULL, REMOVE
from benchmarks.node import CRI, DOCKER, PEER, STORAGE
from benchmarks.pulls import OURS, TOOL, by_engine
from benchmarks.results import Key
from benchmarks.run import in_turn
from parts.criimage_process import criimage
from parts.store import store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.run import Run

    Burst = Callable[[Sequence[str]], float]

PART = "bursts"
AT_ONCE = 16
_UNCHANGED = 2 * AT_ONCE


def unchanged(backend: str) -> str:
    """What pulls of images that are here are called in the results."""
    return f"unchanged, {backend}"


def new(count: int, backend: str) -> str:
    """What pulls of so many new images are called in the results."""
    return f"{count} new tiny ones, {backend}"


def removal(backend: str) -> str:
    """What the removal of such images is called in the results."""
    return f"removal of new tiny ones, {backend}"


def bursts(run: Run) -> None:
    """All of it with 16 in flight; times are those of one call as a share of all: what they took, over how many."""
    _unchanged(run)
    _new_in_one_store(run)
    _new_in_empty_stores(run)


def _over_cri(run: Run, server: str) -> Burst:
    return _over_cri_at(run, run.node.servers[server].endpoint, PULL)


def _over_cri_at(run: Run, endpoint: str, method: str) -> Burst:
    return lambda names: run.client.each(endpoint, method, names, in_flight=AT_ONCE)[0]


def _at_once(pull: Callable[[str], object]) -> Burst:
    def all_of(names: Sequence[str]) -> float:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            began = time.perf_counter()
            list(pool.map(pull, names))
            return time.perf_counter() - began

    return all_of


def _add(run: Run, number: int, what: str, side: str, seconds: float, count: int) -> None:
    if number >= 0:  # the round before the first one warms up
        run.results.add(Key(PART, what, side), "ms", seconds / count * 1000)


def _unchanged(run: Run) -> None:
    node = run.node
    names = node.names[: min(run.options.burst, _UNCHANGED)]
    blocks: list[tuple[str, dict[str, Burst]]] = [
        (STORAGE, {PEER: _over_cri(run, PEER), OURS: _over_cri(run, STORAGE)}),
        # Apart from the others: a pull by somebody else makes criimage read the store again.
        (STORAGE, {TOOL: _at_once(node.storage.pull)}),
        (CRI, {TOOL: _over_cri(run, PEER), OURS: _over_cri(run, CRI)}),
    ]
    if node.engine is not None:
        blocks.append((DOCKER, {TOOL: _at_once(by_engine(node.engine)), OURS: _over_cri(run, DOCKER)}))
    for number in run.options.numbers:
        for backend, sides in blocks:
            for side in in_turn(list(sides), number):
                _add(run, number, unchanged(backend), side, sides[side](names), len(names))


def _new_in_one_store(run: Run) -> None:
    """On docker and cri, where a removal leaves the store as it was for both sides."""
    node = run.node
    names = node.tiny("burst", min(run.options.burst, AT_ONCE))
    blocks: dict[str, dict[str, Burst]] = {CRI: {TOOL: _over_cri(run, PEER), OURS: _over_cri(run, CRI)}}
    if node.engine is not None:
        blocks[DOCKER] = {TOOL: _at_once(by_engine(node.engine)), OURS: _over_cri(run, DOCKER)}
    for number in run.options.numbers:
        for backend, sides in blocks.items():
            for side in in_turn(list(sides), number):
                _add(run, number, new(len(names), backend), side, sides[side](names), len(names))
                # By criimage whoever has pulled, on cri each side what is its own; see `benchmarks.pulls`.
                by = PEER if (backend, side) == (CRI, TOOL) else backend
                seconds = _over_cri_at(run, node.servers[by].endpoint, REMOVE)(names)
                if by == PEER or side == OURS:
                    _add(run, number, removal(backend), side, seconds, len(names))


def _new_in_empty_stores(run: Run) -> None:
    names = run.node.tiny("burst", run.options.burst)
    ways = {TOOL: _by_tool, OURS: _by_ours}
    for number in range(run.options.rounds):
        for side in in_turn(list(ways), number):
            ways[side](run, names)


def _by_tool(run: Run, names: Sequence[str]) -> None:
    # In an empty store each time, which is faster than to remove them all.
    with store() as fresh:
        _add(run, 0, new(len(names), STORAGE), TOOL, _at_once(fresh.pull)(names), len(names))


def _by_ours(run: Run, names: Sequence[str]) -> None:
    with store() as fresh, criimage(run.node.config(STORAGE, fresh)) as server:
        run.client.first(server.endpoint, LIST)
        seconds = _over_cri_at(run, server.endpoint, PULL)(names)
        _add(run, 0, new(len(names), STORAGE), OURS, seconds, len(names))
        some = names[:AT_ONCE]
        _add(run, 0, removal(STORAGE), OURS, _over_cri_at(run, server.endpoint, REMOVE)(some), len(some))
