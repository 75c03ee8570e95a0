"""A run of the benchmark: which parts, in which order, on how many images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.client import Client
    from benchmarks.node import Node
    from benchmarks.results import Results

_T = TypeVar("_T")

CLIENTS = 4
"""Client processes for many calls at once; together they have 16 in flight."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured.

    Attributes:
        parts: names of parts.
        sizes: how many images the stores have, rising.
        rounds: of everything that is compared.
        seconds: that the same call is made in one round.
        pulls: of one block.
        burst: images that are pulled at once.
        large: layers of the large image, of 1 MiB each.
        load: seconds of load before memory is looked at again.
        calls: of one round without sockets.
        written: numbers of images of stores whose records are written by us, rising.
    """

    parts: tuple[str, ...]
    sizes: tuple[int, ...] = (10, 100, 1000)
    rounds: int = 9
    seconds: float = 0.08
    pulls: int = 5
    burst: int = 48
    large: int = 8
    load: float = 3.0
    calls: int = 4000
    written: tuple[int, ...] = (10, 100, 1000, 10_000)

    @property
    def numbers(self) -> range:
        """Of the rounds; -1 is one before the first, which warms up and does not count."""
        return range(-1 if self.rounds > 1 else 0, self.rounds)

    @property
    def few(self) -> int:
        """The smallest number of images."""
        return self.sizes[0]

    @property
    def usual(self) -> int:
        """The number of images of what is measured with one number only."""
        return self.sizes[min(1, len(self.sizes) - 1)]

    @property
    def many(self) -> int:
        """The largest number of images that is not behind a flag."""
        return max((size for size in self.sizes if size <= 1000), default=self.sizes[-1])

    def sizes_of(self, part: str) -> tuple[int, ...]:
        """The numbers of images that a part is measured with."""
        if part == "calls":
            return self.sizes
        if part in {"start", "memory"}:
            return tuple(dict.fromkeys((self.few, self.many)))
        return (self.usual,)


@dataclass(frozen=True, slots=True)
class Run:
    """What a part works with.

    Attributes:
        node: everything that is measured, with stores that are filled.
        client: makes single calls.
        clients: make many at once.
        options: how much.
        results: takes what is measured.
    """

    node: Node
    client: Client
    clients: Sequence[Client]
    options: Options
    results: Results

    @property
    def images(self) -> int:
        """How many every store has."""
        return len(self.node.names)


def in_turn(sides: Sequence[_T], number: int) -> Sequence[_T]:
    """The order of a round: each second one is turned round, so that nobody always comes after the same other one."""
    return sides if number % 2 == 0 else sides[::-1]
