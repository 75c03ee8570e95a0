"""Pulls beside the bare tool's into the same store: unchanged images and new ones, one at a time."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from benchmarks.client import PULL, REMOVE
from benchmarks.node import CRI, DOCKER, PEER, STORAGE
from benchmarks.results import Key
from benchmarks.run import in_turn
from criimage.reference import DEFAULT_DOMAIN, Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.run import Run
    from parts.engine import Engine

    Pulling = Callable[[Sequence[str]], float]

OURS, TOOL, REQUEST = "criimage", "bare tool", "one request"
TAG, DIGEST = "unchanged, docker by tag", "unchanged, docker by digest"
UNCHANGED_STORAGE, UNCHANGED_CRI = "unchanged, containers-storage", "unchanged, cri"
_TINY = 3


def new(kind: str, backend: str) -> str:
    """What a pull of a new image is called in the results."""
    return f"new {kind}, {backend}"


def removal(pulled: str) -> str:
    """What the removal of images that were pulled so is called in the results."""
    return f"removal of {pulled}"


def pulls(run: Run) -> None:
    """All of it; times are those of one pull."""
    _unchanged(run)
    for kind, names in (
        ("tiny", run.node.tiny("tiny", _TINY)),
        (f"{run.options.large} x 1 MiB", [run.node.large(run.options.large, 1)]),
    ):
        _new(run, kind, names)


def _over_cri(run: Run, server: str) -> Pulling:
    place = run.node.servers[server].endpoint
    return lambda names: run.client.each(place, PULL, names)[1]


def _one_by_one(pull: Callable[[str], object]) -> Pulling:
    def median(names: Sequence[str]) -> float:
        times = []
        for name in names:
            began = time.perf_counter()
            pull(name)
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    return median


def by_engine(engine: Engine) -> Callable[[str], object]:
    """The engine's own pull of one image; RuntimeError where it says that it has failed."""

    def pull(name: str) -> None:
        reference = Reference.parse(name, DEFAULT_DOMAIN)
        text = engine.pull(f"{reference.domain}/{reference.path}", str(reference.digest or reference.tag))
        if '"error"' in text:
            raise RuntimeError(text)

    return pull


def _unchanged(run: Run) -> None:
    node = run.node
    names = node.names[: run.options.pulls]
    digests = [f"{name.rpartition(':')[0]}@{_digest(run, name)}" for name in names]
    over_cri = {PEER: _over_cri(run, PEER), OURS: _over_cri(run, STORAGE)}
    blocks: list[tuple[str, Sequence[str], dict[str, Pulling]]] = [
        (UNCHANGED_STORAGE, names, over_cri),
        (UNCHANGED_STORAGE, names, {TOOL: _one_by_one(node.storage.pull)}),
        (UNCHANGED_CRI, names, {TOOL: _over_cri(run, PEER), OURS: _over_cri(run, CRI)}),
    ]
    if node.engine is not None:
        sides = {TOOL: _one_by_one(by_engine(node.engine)), OURS: _over_cri(run, DOCKER)}
        asked = {REQUEST: _one_by_one(lambda name: _digest(run, name))}
        blocks += [(TAG, names, sides), (DIGEST, digests, sides), (DIGEST, names, asked)]
    for number in run.options.numbers:
        for what, asked_for, sides in blocks:
            _round(run, number, what, asked_for, sides)


def _digest(run: Run, name: str) -> str:
    reference = Reference.parse(name, DEFAULT_DOMAIN)
    return str(run.node.images.client.digest(reference.path, str(reference.tag)))


def _new(run: Run, kind: str, names: Sequence[str]) -> None:
    node = run.node
    blocks = {
        STORAGE: {TOOL: _one_by_one(node.storage.pull), OURS: _over_cri(run, STORAGE)},
        CRI: {TOOL: _over_cri(run, PEER), OURS: _over_cri(run, CRI)},
    }
    if node.engine is not None:
        blocks[DOCKER] = {TOOL: _one_by_one(by_engine(node.engine)), OURS: _over_cri(run, DOCKER)}
    for number in run.options.numbers:
        for backend, sides in blocks.items():
            _round(run, number, new(kind, backend), names, sides, remove=backend)


def _round(run: Run, number: int, what: str, names: Sequence[str], sides: dict[str, Pulling], remove: str = "") -> None:
    for side in in_turn(list(sides), number):
        seconds = sides[side](names)
        if number >= 0:  # the round before the first one warms up
            run.results.add(Key("pulls", what, side), "ms", seconds * 1000)
        if remove:
            # By criimage whoever has pulled, so that it knows the store as it is when its own turn comes; on cri it
            # asks each time, and the runtime may remove what was pulled by itself.
            by = PEER if (remove, side) == (CRI, TOOL) else remove
            _, removed = run.client.each(run.node.servers[by].endpoint, REMOVE, names)
            if number >= 0 and (by == PEER or side == OURS):
                run.results.add(Key("pulls", removal(what), side), "ms", removed * 1000)
