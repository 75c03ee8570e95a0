"""Who waits for whom in the engine: a graph driver's engine downloads three layers at once by default, of all pulls.

Further layers are `Waiting`, first come, first served. A pull of which nothing else is left waits for others and does
not stand still; but whoever hangs in a download is not excused by others. The engine still says `Waiting` of a layer
that has got its turn and hangs before its first byte, so what counts is the order: only layers that came before can be
what a pull waits for. So nobody can wait for ever: in a row of hung pulls the first waits for nobody.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field

__all__ = ["DownloadQueue", "Layer", "QueuedPull"]

_SAME_TIME = 1.0
"""Seconds within which two streams may tell in another order than the engine did things."""


@dataclass(slots=True, eq=False)
class Layer:
    """What the messages about one layer have said.

    Attributes:
        ticket: numbers the layers of all pulls as they came.
        came: the same as a time, of the clock that does not jump.
        bytes: that have arrived.
        total: of bytes; None while unknown.
        arrived: all its bytes are here.
        unpacked: the engine says that it is done with it; the containerd store says so from 28 on only.
        waiting: the engine has not said anything of it but that it waits.
        moved: when its bytes last changed.
    """

    ticket: int
    came: float
    bytes: int = 0
    total: int | None = None
    arrived: bool = False
    unpacked: bool = False
    waiting: bool = False
    moved: float = 0.0


@dataclass(slots=True, eq=False)
class QueuedPull:
    """One pull's layers in the engine's queue, by ID; those that are there already are not among them."""

    queue: DownloadQueue
    layers: dict[str, Layer] = field(default_factory=dict)

    def layer(self, key: str) -> Layer:
        """Return a layer, which comes last if it is new."""
        return self.layers.setdefault(key, Layer(next(self.queue.tickets), time.monotonic()))

    def waits_for_others(self, since: float) -> bool:
        """Whether nothing but the engine's other downloads keeps this pull from going on.

        True if all that is to come is waiting, and there is another pull's layer that came before and is not here yet,
        or one that came at the same time and has moved.

        Args:
            since: when such a layer must have moved.
        """
        left = {key: layer for key, layer in self.layers.items() if not layer.arrived}
        if not left or not all(layer.waiting for layer in left.values()):
            return False
        first = min(left.values(), key=lambda layer: layer.ticket)
        for other in self.queue.pulls - {self}:
            for key, layer in other.layers.items():
                # A layer of both is one transfer.
                if key in left or layer.arrived:
                    continue
                if layer.ticket < first.ticket or (layer.came < first.came + _SAME_TIME and layer.moved >= since):
                    return True
        return False

    def leave(self) -> None:
        """Say that the pull has ended."""
        self.queue.pulls.discard(self)


class DownloadQueue:
    """The pulls that this process has in one engine."""

    def __init__(self) -> None:
        self.tickets = itertools.count()
        self.pulls: set[QueuedPull] = set()

    def enter(self) -> QueuedPull:
        """Begin a pull."""
        queued = QueuedPull(self)
        self.pulls.add(queued)
        return queued
