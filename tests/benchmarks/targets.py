"""What is promised, as ratios in one run, and whether a run keeps it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import bursts, growth, pulls, starts
from benchmarks.calls import BARE, RELAYED, WITHOUT_SOCKETS, with_images
from benchmarks.node import CRI, DOCKER, PEER, STORAGE
from benchmarks.results import Key, Results, Spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.run import Options

_NEW_MILLISECONDS = 5.0
_MEMORY = {STORAGE: 45.0, CRI: 45.0, DOCKER: 60.0}


class Verdict(enum.Enum):
    """Whether a target is met."""

    MET = "met"
    INSIDE = "missed inside the spread"
    MISSED = "missed"
    UNKNOWN = "not measured"


@dataclass(frozen=True, slots=True)
class Target:
    """A promise.

    Attributes:
        text: what is compared with what.
        ours: our side.
        bases: the other side, several together; none for a promise in a unit.
        limit: of our value, or of its ratio to the other side's.
        less: what may come on top of the ratio, in our value's unit.
        at_least: whether more is better.
    """

    text: str
    ours: Key
    bases: tuple[Key, ...]
    limit: float
    less: float = 0.0
    at_least: bool = False

    def measured(self, results: Results) -> Spread | None:
        """What a run says; None where it says nothing."""
        if self.bases:
            return results.ratio(self.ours, *self.bases, less=self.less)
        series = results.series.get(self.ours)
        return None if series is None else Spread.of(series.values)

    def verdict(self, results: Results) -> Verdict:
        """Whether a run keeps it: its median does, or only the better quarter of its rounds, or not even that."""
        found = self.measured(results)
        if found is None:
            return Verdict.UNKNOWN
        median, best = found.median, found.high if self.at_least else found.low
        kept = [value >= self.limit if self.at_least else value <= self.limit for value in (median, best)]
        return Verdict.MET if kept[0] else Verdict.INSIDE if kept[1] else Verdict.MISSED

    def limit_text(self, results: Results) -> str:
        """The limit as the table has it."""
        unit = "" if self.bases else f" {results.series[self.ours].unit}" if self.ours in results.series else ""
        more = f" + {self.less:g} ms" if self.less else ""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{unit}{more}"


def targets(options: Options) -> list[Target]:
    """The promises as far as the chosen parts say something about them."""
    found = [*_calls(options), _growth(options), *_pulls(options), *_relay(), *_starts(options)]
    return [target for target in found if target.ours.part in options.parts]


def _against(part: str, what: str, side: str, base: str, limit: float, text: str = "") -> Target:
    ours = Key(part, what, side)
    return Target(text or f"{what}, {side} to {base}", ours, (Key(part, what, base),), limit)


def _calls(options: Options) -> Iterator[Target]:
    usual, many = options.usual, options.many
    for side in (STORAGE, DOCKER):
        for what in (with_images("ImageStatus", usual), with_images("ImageFsInfo", usual), "Version"):
            yield _against("calls", what, side, PEER, 1.0)
    yield _against("calls", with_images("ListImages", many), STORAGE, PEER, 0.1)
    for what in (with_images("ImageStatus", usual), with_images("ImageFsInfo", usual), "Version"):
        ours, base = Key("throughput", what, STORAGE), Key("throughput", what, PEER)
        text = f"{what}, calls a second at 16 in flight, {STORAGE} to {PEER}"
        yield Target(text, ours, (base,), 0.8, at_least=True)
    own = Key("processor", WITHOUT_SOCKETS, "memory")
    yield Target(f"the server's own CPU, {WITHOUT_SOCKETS}", own, (), 90.0)


def _growth(options: Options) -> Target:
    many, most = options.written[-2:]
    ours, base = (Key(growth.PART, "ListImages", growth.side(size)) for size in (most, many))
    return Target(f"ListImages, {most} images to {many}, {STORAGE}", ours, (base,), 12.0)


def _pulls(options: Options) -> Iterator[Target]:
    ours, tool, part = pulls.OURS, pulls.TOOL, "pulls"
    yield _against(part, pulls.UNCHANGED_STORAGE, ours, PEER, 1.2)
    yield _against(part, pulls.TAG, ours, tool, 1.2)
    what = pulls.DIGEST
    bases = (Key(part, what, tool), Key(part, what, pulls.REQUEST))
    yield Target(f"{what}, {ours} to {tool} and one request", Key(part, what, ours), bases, 1.2)
    what = pulls.UNCHANGED_CRI
    yield Target(f"{what}, {ours} to {tool}", Key(part, what, ours), (Key(part, what, tool),), 1.1, less=1.0)
    for kind in ("tiny", f"{options.large} x 1 MiB"):
        for backend in (STORAGE, DOCKER, CRI):
            what = pulls.new(kind, backend)
            yield Target(
                f"{what}, {ours} to {tool}",
                Key(part, what, ours),
                (Key(part, what, tool),),
                1.05,
                less=_NEW_MILLISECONDS,
            )
    what = bursts.new(options.burst, STORAGE)
    text = f"{what}, at {bursts.AT_ONCE} in flight, {ours} to {tool}"
    yield _against(bursts.PART, what, ours, tool, 1.05, text)


def _relay() -> Iterator[Target]:
    for call in RELAYED:
        yield _against("relay", call, "relayed", "direct", 2.5, f"{call}, relayed to direct")


def _starts(options: Options) -> Iterator[Target]:
    for images, limit in {options.few: 2.2, options.many: 4.4}.items():
        what = starts.first_list(images)
        yield _against("start", what, STORAGE, BARE, limit, f"{what}, {STORAGE} to the bare server's first answer")
    for side, limit in _MEMORY.items():
        what = starts.memory(starts.IDLE, options.few)
        yield Target(f"memory, {what}, {side}", Key("memory", what, side), (), limit)
