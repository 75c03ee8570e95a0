"""One pull for all who ask for the same, and the list of those that run.

A caller that goes away leaves alone; when the last one has left, the pull is cancelled and stops at its source. A
caller that comes after that starts afresh. A result is never shared across credentials: success proves that *these*
may have the image (cri-protocol 2.5).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import structlog

from criimage import tracing
from criimage.backend import Phase
from criimage.errors import CriimageError, OperationFailed, PullCancelled
from criimage.pulls import audit, trace
from criimage.pulls.attempts import pull_first
from criimage.pulls.limiter import Limiter
from criimage.pulls.policy import PullPolicy
from criimage.pulls.running import Pulled, PullKey, PullView, RunningPull

if TYPE_CHECKING:
    from criimage.backend import Backend, PullContext
    from criimage.credentials import Credentials
    from criimage.reference import Name
    from criimage.work import Work

__all__ = ["PullFigures", "Pulled", "Pulls"]

_log = structlog.get_logger(__name__)

_ENDED_REMEMBERED = 1000
_STOPPING = "the image service is stopping"

RESOLVE_SECONDS = 30.0
"""How long a backend may take to say what a name means: it reads files for that, at most."""


class PullFigures(Protocol):
    """Takes what is measured of pulls."""

    def pulls_running(self, count: int) -> None:
        """So many pulls are running or queued now."""

    def pull_ended(self, seconds: float, bytes_done: int, outcome: str) -> None:
        """One pull ended; `outcome` is `pulled`, `unchanged` or an error's kind."""

    def layers(self, fetched: int, reused: int) -> None:
        """It had fetched so many layers, and so many were here already."""


class Pulls:
    """The pulls of one backend.

    Args:
        backend: does the pulling.
        work: where pulls run, apart from the callers' tasks.
        policy: deadlines and limits.

    Attributes:
        changes: how many times a pull has begun or ended.
    """

    def __init__(self, backend: Backend, work: Work, policy: PullPolicy | None = None) -> None:
        self._backend = backend
        self._work = work
        self._limiter = Limiter(policy or PullPolicy())
        self._figures: PullFigures | None = None
        self._running: dict[PullKey, RunningPull] = {}
        self._all: dict[str, RunningPull] = {}
        self._ended: deque[tuple[int, PullView]] = deque(maxlen=_ENDED_REMEMBERED)
        self._ended_count = 0
        self._ids = itertools.count(1)
        self._stopping = False
        self._news = asyncio.Event()
        self.changes = 0

    def measure_with(self, figures: PullFigures) -> None:
        """Tell `figures` about every pull from now on."""
        self._figures = figures

    async def pull(self, name: Name, credentials: Credentials | None, context: PullContext) -> Pulled:
        """Pull the image that `name` means, or join an equal pull that is running.

        After a cancel the pull goes on for those who still wait, and is stopped if nobody does.

        Raises:
            CriimageError: as the backend's `resolve` and `pull` do; PullTimeout when a deadline cuts it off;
                PullCancelled if the operator ends it or the server stops. Every caller gets an error of its own.
        """
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                candidates = await self._backend.resolve(name)
        except TimeoutError as error:
            raise OperationFailed(f"what {name} means could not be found out in time") from error
        if self._stopping:
            raise PullCancelled(_STOPPING)
        key = PullKey(candidates, credentials, context.namespace)
        pull = self._running.get(key)
        if pull is None:
            pull = self._start(key, name, context)
        return await self._wait(pull, context)

    def _start(self, key: PullKey, name: Name, context: PullContext) -> RunningPull:
        pull = RunningPull(str(next(self._ids)), key, name, context)
        pull.trace = trace.begin_trace(pull)
        pull.answer = lambda error: self._settle(pull, error)
        pull.task = self._work.start(self._run(pull), name=f"pull {name}")
        # However it ends, and also if it is cancelled before its first step: nobody waits for ever.
        pull.task.add_done_callback(lambda _: self._settle(pull, PullCancelled(self._why_ended())))
        self._running[key] = self._all[pull.id] = pull
        self._say_running()
        self._tell()
        return pull

    async def _wait(self, pull: RunningPull, context: PullContext) -> Pulled:
        pull.waiters.append(context)
        pull.callers += 1
        pull.peers.add_current()
        trace.joined(pull)
        try:
            await pull.done.wait()
        finally:
            pull.waiters.remove(context)
            if not pull.waiters and not pull.done.is_set():
                self._end(pull, PullCancelled("nobody waits for the pull any more"))
        if isinstance(pull.outcome, CriimageError):
            raise pull.outcome.for_another_waiter()
        return pull.outcome

    def _why_ended(self) -> str:
        return _STOPPING if self._stopping else "the pull was interrupted"

    def running(self) -> tuple[PullView, ...]:
        """Return the pulls that run or wait for their turn, in the order they began."""
        return tuple(pull.view() for pull in self._all.values())

    @property
    def ended_count(self) -> int:
        """How many pulls have ended so far, as a mark for `ended_since`."""
        return self._ended_count

    def ended_since(self, mark: int) -> tuple[PullView, ...]:
        """Return the pulls that ended after `ended_count` was `mark`, as they were at their end."""
        return tuple(view for number, view in self._ended if number > mark)

    async def news(self, seconds: float) -> None:
        """Wait until a pull begins or ends, or so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    def cancel(self, pull_id: str) -> bool:
        """End one pull by the operator's hand; its callers are told so. False if there is none with this ID."""
        pull = self._all.get(pull_id)
        if pull is None or pull.done.is_set():
            return False
        self._end(pull, PullCancelled(f"cancelled by the operator: {pull.name}"))
        return True

    def cancel_all(self) -> None:
        """End every pull and take no more; the callers are told that the service is stopping."""
        self._stopping = True
        for pull in list(self._all.values()):
            self._end(pull, PullCancelled(_STOPPING))

    def set_policy(self, policy: PullPolicy) -> None:
        """Keep other limits from now on; attempts under way keep their deadlines."""
        self._limiter.policy = policy
        self._limiter.admit()

    def _end(self, pull: RunningPull, reason: PullCancelled) -> None:
        # The key is free at once, so that a new caller does not join a pull that is ending. The waiters are told here,
        # because the work may take a moment to stop.
        self._settle(pull, reason)
        if pull.task is not None:
            pull.task.cancel()

    def _settle(self, pull: RunningPull, outcome: Pulled | CriimageError) -> None:
        if pull.done.is_set():
            return
        pull.outcome = outcome
        failed = isinstance(outcome, CriimageError)
        pull.report(replace(pull.progress, phase=Phase.FAILED if failed else Phase.DONE))
        if self._running.get(pull.key) is pull:
            del self._running[pull.key]
        del self._all[pull.id]
        self._ended_count += 1
        self._ended.append((self._ended_count, pull.view()))
        pull.done.set()
        audit.log_end(pull)
        if pull.trace is not None:
            pull.trace.ended(outcome, pull)
        if self._figures is not None:
            unchanged = "unchanged" if pull.progress.unchanged else "pulled"
            kind = outcome.kind if isinstance(outcome, CriimageError) else unchanged
            self._figures.pull_ended(pull.seconds, pull.progress.bytes_done, kind)
            self._figures.layers(pull.progress.layers_done, pull.progress.layers_reused or 0)
        self._say_running()
        self._tell()

    def _say_running(self) -> None:
        if self._figures is not None:
            self._figures.pulls_running(len(self._all))

    def _tell(self) -> None:
        self.changes += 1
        self._news.set()
        self._news = asyncio.Event()

    async def _run(self, pull: RunningPull) -> None:
        if pull.trace is not None:
            # What the backend asks of others belongs to the pull, whoever called first.
            tracing.enter(pull.trace.span)
        audit.log_start(pull)
        outcome: Pulled | CriimageError
        ticking = asyncio.create_task(_tick(pull))
        try:
            outcome = await pull_first(self._backend, self._limiter, pull)
        except CriimageError as error:
            outcome = error
        except Exception:  # noqa: BLE001 - the callers must hear of it
            _log.exception("fault in the backend", pull=pull.id)
            outcome = OperationFailed("internal error, the log of the image service says more")
        finally:
            ticking.cancel()
        self._settle(pull, outcome)


async def _tick(pull: RunningPull) -> None:
    while True:
        await asyncio.sleep(audit.PROGRESS_SECONDS)
        audit.log_progress(pull)
