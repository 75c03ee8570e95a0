"""Removals as every backend gets them: shared, limited, cancellable, observable, in tasks of the server's own.

A removal that has begun goes on when its client leaves. It has a limit: what takes longer is stopped at its source, and
the image is looked at again, so that the caller hears what was waited for and what has become of the image. Until the
work has really stopped, the removal stays in the list and no equal one begins.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import structlog

from criimage.backend import RemovalWait, removal_wait
from criimage.duration import duration_text
from criimage.errors import CriimageError, OperationFailed, RemovalCancelled, RemovalTimeout
from criimage.peer import Peers
from criimage.reference import Lookup

if TYPE_CHECKING:
    from criimage.backend import Backend, Image
    from criimage.work import Work

__all__ = ["LOOK_SECONDS", "STOP_SECONDS", "RemovalFigures", "RemovalView", "Removals"]

_log = structlog.get_logger(__name__)

STOP_SECONDS = 5.0
"""How long the caller of a removal that was stopped waits for its work to end."""

LOOK_SECONDS = 5.0
"""How long a look at what has become of the image may take."""

_FINDING = "the store to find the image"
_STOPPING = "the image service is stopping"
_GONE = "the image is gone"
_UNKNOWN = "whether the image is still there could not be seen"


class RemovalFigures(Protocol):
    """Takes what is measured of removals."""

    def removals_running(self, count: int) -> None:
        """So many removals are running now."""

    def removal_ended(self, seconds: float, outcome: str) -> None:
        """One removal was answered; `outcome` is `removed` or an error's kind."""


@dataclass(frozen=True, slots=True)
class RemovalView:
    """A removal as operators see it.

    Attributes:
        id: unique among the removals of this process.
        image: what the first caller asked to remove, as written.
        image_id: of the image that was found for it; empty while none is.
        waiting_for: what it waits for now.
        stopping: it was cancelled or took too long, and has not stopped yet.
        started: seconds since the epoch.
        waiters: how many callers wait for it.
    """

    id: str
    image: str
    image_id: str
    waiting_for: str
    stopping: bool
    started: float
    waiters: int


@dataclass(slots=True, eq=False)
class _Removal:
    """One removal.

    Attributes:
        number: counts the removals as they begin.
        lookup: what it removes, and what it is shared by.
        wait: told by the backend.
        before: the image as it was; None until it is found, or where nothing is.
        outcome: None is success; meaningless before `answered`.
        answered: the callers know what came of it.
        over: nothing of it runs any more.
        stop: set with `reason` to end it early.
    """

    number: int
    lookup: Lookup
    wait: RemovalWait = field(default_factory=lambda: RemovalWait(_FINDING))
    before: Image | None = None
    outcome: CriimageError | None = None
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    waiters: int = 0
    callers: int = 0
    peers: Peers = field(default_factory=Peers)
    started: float = field(default_factory=time.time)
    clock: float = field(default_factory=time.monotonic)

    def view(self) -> RemovalView:
        """Return what operators see."""
        image_id = str(self.before.id) if self.before is not None else ""
        stopping = self.stop.is_set() or self.answered.is_set()
        number, text = str(self.number), self.lookup.text
        return RemovalView(number, text, image_id, self.wait.what, stopping, self.started, self.waiters)


class Removals:
    """The removals of one backend.

    Args:
        backend: does the removing.
        work: where removals run, apart from the callers' tasks.
        timeout: seconds that one may take.
    """

    def __init__(self, backend: Backend, work: Work, timeout: float = 100.0) -> None:
        self._backend = backend
        self._work = work
        self._timeout = timeout
        self._figures: RemovalFigures | None = None
        self._numbers = itertools.count(1)
        self._last = 0
        self._running: dict[Lookup, _Removal] = {}

    def measure_with(self, figures: RemovalFigures) -> None:
        """Tell `figures` about every removal from now on."""
        self._figures = figures

    def set_timeout(self, seconds: float) -> None:
        """Keep another limit for removals that begin from now on."""
        self._timeout = seconds

    def running(self) -> tuple[RemovalView, ...]:
        """Return the removals that run, those that have not stopped yet included, in the order they began."""
        return tuple(removal.view() for removal in self._running.values())

    def cancel(self, removal_id: str) -> bool:
        """Stop one removal by the operator's hand; its callers are told so. False if there is none with this ID."""
        for removal in self._running.values():
            if str(removal.number) == removal_id:
                removal.stop.set()
                return True
        return False

    async def remove(self, lookup: Lookup) -> None:
        """Remove the image that `lookup` finds, with all its names; that nothing is found is success.

        Equal removals are one. Since an image may come back while an earlier one ends, only a removal that began after
        this call counts as its success; the failure of an earlier one is this call's as well. After a cancel of the
        caller the removal goes on.

        Raises:
            CriimageError: as the backend's `remove` does.
            RemovalTimeout: it took too long and was stopped; the text says what it waited for and what has become of
                the image.
            RemovalCancelled: the operator stopped it; the same.
        """
        began_before = self._last
        end = asyncio.get_running_loop().time() + self._timeout
        while True:
            removal = self._running.get(lookup) or self._start(lookup)
            ours = removal.number > began_before
            answered = removal.answered.is_set()
            removal.waiters += 1
            removal.callers += 1
            removal.peers.add_current()
            try:
                # Ours has a limit of its own; what was there before we came must not add its time to ours.
                async with asyncio.timeout_at(None if ours else end):
                    await (removal.over if answered else removal.answered).wait()
            except TimeoutError:
                raise _cut_off(removal, self._timeout, "it still goes on") from None
            finally:
                removal.waiters -= 1
            if not answered and removal.outcome is not None:
                raise removal.outcome.for_another_waiter()
            if ours and not answered:
                return
            await removal.over.wait()

    def _start(self, lookup: Lookup) -> _Removal:
        removal = _Removal(next(self._numbers), lookup)
        self._last = removal.number
        task = self._work.start(self._run(removal), name=f"removal of {lookup.text}")
        # However it ends, and also if it is cancelled before its first step: nobody waits for ever.
        task.add_done_callback(lambda _: self._end(removal))
        self._running[lookup] = removal
        self._say_running()
        return removal

    async def _run(self, removal: _Removal) -> None:
        limit = self._timeout
        work = self._work.start(self._remove(removal), name=f"remove {removal.lookup.text}")
        stop = asyncio.create_task(removal.stop.wait())
        try:
            await asyncio.wait({work, stop}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                self._answer(removal, _result(removal, work))
                return
            waited_for, cancelled = removal.wait.what, removal.stop.is_set()
            removal.stop.set()
            work.cancel()
            await asyncio.wait({work}, timeout=STOP_SECONDS)
            state = await self._look(removal, work) if work.done() else "it has not stopped yet"
            failure = _stopped(removal, waited_for, state) if cancelled else _cut_off(removal, limit, state, waited_for)
            self._answer(removal, None if state == _GONE else failure)
            if not work.done():
                await asyncio.wait({work})
                state = await self._look(removal, work)
                _log.info("removal has stopped at last", **_who(removal), state=state)
        finally:
            stop.cancel()

    async def _remove(self, removal: _Removal) -> None:
        removal_wait.set(removal.wait)
        found = await self._backend.status(removal.lookup)
        if found is not None:
            removal.before = found.image
        removal.wait.what = "the store to remove the image"
        await self._backend.remove(removal.lookup)

    async def _look(self, removal: _Removal, work: asyncio.Task[None]) -> str:
        """Say what has become of the image of a removal that was stopped."""
        if not work.cancelled() and work.exception() is None:
            return _GONE  # it was done in the last moment
        if removal.before is None:
            return "nothing had been touched" if removal.wait.what == _FINDING else _UNKNOWN
        identity = removal.before.id
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                found = await self._backend.status(Lookup(str(identity), id=identity))
        except (TimeoutError, CriimageError):
            return _UNKNOWN
        except Exception:  # noqa: BLE001 - the callers must hear of the removal all the same
            _log.exception("fault in the backend", **_who(removal))
            return _UNKNOWN
        if found is None:
            return _GONE
        if found.image == removal.before:
            return "the image is still there"
        had, has = removal.before, found.image
        lost = sorted({*map(str, had.tags), *map(str, had.digests)} - {*map(str, has.tags), *map(str, has.digests)})
        without = f" without {', '.join(lost)}" if lost else ", but changed"
        return f"the image is still there{without}: remove it by its ID {identity}"

    def _answer(self, removal: _Removal, failure: CriimageError | None) -> None:
        if removal.answered.is_set():
            return
        removal.outcome = failure
        removal.answered.set()
        seconds = time.monotonic() - removal.clock
        fields = {**_who(removal), "seconds": round(seconds, 3), "callers": removal.callers}
        if failure is None:
            _log.info("removal finished", **fields)
        else:
            _log.warning("removal failed", **fields, outcome=failure.kind, error=failure.text)
        if self._figures is not None:
            self._figures.removal_ended(seconds, "removed" if failure is None else failure.kind)

    def _end(self, removal: _Removal) -> None:
        self._answer(removal, RemovalCancelled(f"removal of {removal.lookup.text} was interrupted: {_STOPPING}"))
        del self._running[removal.lookup]
        removal.over.set()
        self._say_running()

    def _say_running(self) -> None:
        if self._figures is not None:
            self._figures.removals_running(len(self._running))


def _result(removal: _Removal, work: asyncio.Task[None]) -> CriimageError | None:
    if work.cancelled():
        return RemovalCancelled(f"removal of {removal.lookup.text} was interrupted: {_STOPPING}")
    error = work.exception()
    if error is None or isinstance(error, CriimageError):
        return error
    _log.error("fault in the backend", removal=str(removal.number), exc_info=error)
    return OperationFailed("internal error, the log of the image service says more")


def _cut_off(removal: _Removal, limit: float, state: str, waited_for: str | None = None) -> RemovalTimeout:
    # The configured time, not the measured one: texts are stable.
    what = waited_for or removal.wait.what
    text = f"removal cut off: waited for {what}, not complete within {duration_text(limit)}"
    return RemovalTimeout(f"{text}: {removal.lookup.text}; {state}")


def _stopped(removal: _Removal, waited_for: str, state: str) -> RemovalCancelled:
    text = f"removal cancelled by the operator, it waited for {waited_for}"
    return RemovalCancelled(f"{text}: {removal.lookup.text}; {state}")


def _who(removal: _Removal) -> dict[str, object]:
    view = removal.view()
    return {
        "removal": view.id,
        "image": view.image,
        "image_id": view.image_id,
        "waiting_for": view.waiting_for,
        "asked_by": removal.peers.named(),
    }
