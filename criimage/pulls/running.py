"""One pull while it runs: who waits for it, how far it is, and what others may see of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from criimage.backend import Phase, PullProgress
from criimage.errors import CriimageError, OperationFailed
from criimage.peer import Peers

if TYPE_CHECKING:
    from collections.abc import Callable

    from criimage.backend import Image, PullContext
    from criimage.credentials import Credentials
    from criimage.pulls.trace import PullTrace
    from criimage.reference import Name, Reference

__all__ = ["PullKey", "PullView", "Pulled", "RunningPull"]

_RATE_SECONDS = 5.0
_OVER = frozenset({Phase.DONE, Phase.FAILED})


@dataclass(frozen=True, slots=True)
class Pulled:
    """How a pull ended well.

    Attributes:
        image: as the backend lists it now.
        reference: the candidate that was pulled.
    """

    image: Image
    reference: Reference


@dataclass(frozen=True, slots=True)
class PullKey:
    """What makes two pulls equal; only equal ones are shared (cri-o P13)."""

    candidates: tuple[Reference, ...]
    credentials: Credentials | None
    namespace: str


@dataclass(frozen=True, slots=True)
class PullView:
    """A pull as operators see it.

    Attributes:
        id: unique among the pulls of this process.
        reference: the name as the first caller wrote it.
        resolved: the candidate being pulled, or the first one while none is.
        progress: how far it is.
        rate: compressed bytes a second, over the last seconds.
        started: seconds since the epoch.
        waiters: `namespace/pod` of every caller that waits, the empty text for one that does not say.
    """

    id: str
    reference: str
    resolved: str
    progress: PullProgress
    rate: float
    started: float
    waiters: tuple[str, ...]


@dataclass(slots=True, eq=False)
class RunningPull:
    """One pull and all that belongs to it.

    Attributes:
        id: see PullView.
        key: what it is shared by.
        name: as the first caller wrote it.
        context: of the first caller.
        outcome: failed until it is known to have succeeded, so that no waiter ever takes nothing for a success.
        done: set together with the outcome.
        waiters: the callers that wait now.
        callers: how many ever have.
        peers: the processes that they called from.
        task: runs it.
        candidate: the one being pulled.
        first_turn: when the first candidate got its slot, by the loop's clock; None while it waits.
        progress: the last snapshot.
        started: seconds since the epoch.
        clock: the same moment on the clock that does not jump.
        on_change: told of every change.
        trace: its spans, where somebody wants traces.
        answer: ends the waiting of all callers with an error, whether or not the work has stopped.
    """

    id: str
    key: PullKey
    name: Name
    context: PullContext
    outcome: Pulled | CriimageError = field(default_factory=lambda: OperationFailed("the pull ended without a result"))
    done: asyncio.Event = field(default_factory=asyncio.Event)
    waiters: list[PullContext] = field(default_factory=list)
    callers: int = 0
    peers: Peers = field(default_factory=Peers)
    task: asyncio.Task[None] | None = None
    candidate: Reference | None = None
    first_turn: float | None = None
    progress: PullProgress = field(default_factory=lambda: PullProgress(Phase.QUEUED))
    started: float = field(default_factory=time.time)
    clock: float = field(default_factory=time.monotonic)
    on_change: Callable[[], None] | None = None
    answer: Callable[[CriimageError], None] | None = None
    trace: PullTrace | None = None
    _marks: list[tuple[float, int]] = field(default_factory=list)

    def report(self, progress: PullProgress) -> None:
        """Take a backend's snapshot; bytes never go backwards, and nothing moves a pull that is over."""
        if progress.bytes_done < self.progress.bytes_done:
            progress = replace(progress, bytes_done=self.progress.bytes_done)
        if self.done.is_set() or progress == self.progress:
            return
        self.progress = progress
        if self.trace is not None and progress.phase not in _OVER:
            self.trace.reached(progress.phase)
        self._mark(progress.bytes_done)
        if self.on_change is not None:
            self.on_change()

    def turn_to(self, candidate: Reference) -> None:
        """Begin anew with another candidate, which has to wait for its slot."""
        self.candidate = candidate
        self.progress = PullProgress(Phase.QUEUED)
        self._marks.clear()
        if self.trace is not None:
            self.trace.turned_to(candidate)
            self.trace.reached(Phase.QUEUED)

    def _mark(self, bytes_done: int) -> None:
        now = time.monotonic()
        self._marks.append((now, bytes_done))
        self._forget_before(now - _RATE_SECONDS)

    def _forget_before(self, moment: float) -> None:
        # One that is older stays: it tells how much there was at that moment.
        while len(self._marks) > 1 and self._marks[1][0] <= moment:
            del self._marks[0]

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return time.monotonic() - self.clock

    @property
    def rate(self) -> float:
        """Compressed bytes a second, over the last seconds; 0 once it is over or stands still."""
        if self.progress.phase in _OVER:
            return 0.0
        now = time.monotonic()
        self._forget_before(now - _RATE_SECONDS)
        if len(self._marks) < 2:
            return 0.0
        (since, before), (_, after) = self._marks[0], self._marks[-1]
        return (after - before) / min(max(now - since, 0.001), _RATE_SECONDS)

    def view(self) -> PullView:
        """Return what operators see."""
        return PullView(
            self.id,
            str(self.name),
            str(self.candidate or next(iter(self.key.candidates), self.name)),
            self.progress,
            self.rate,
            self.started,
            tuple(_who(context) for context in self.waiters),
        )


def _who(context: PullContext) -> str:
    return f"{context.namespace}/{context.pod}" if context.pod else context.namespace
