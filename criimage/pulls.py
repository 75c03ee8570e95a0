"""Pulls as every backend gets them: the loop over candidates, and one pull for all who ask for the same.

Equal means: the same candidates, the same credentials, the same namespace (cri-o P13). A caller that goes away leaves
alone; when the last one has left, the pull is cancelled and stops at its source. A caller that comes after that starts
afresh. A result is never shared across credentials: success proves that *these* may have the image (cri-protocol 2.5).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from criimage.backend import PullProgress
from criimage.errors import CriimageError, OperationFailed, PullCancelled, PullError

if TYPE_CHECKING:
    from criimage.backend import Backend, Image, PullContext
    from criimage.credentials import Credentials
    from criimage.reference import Name, Reference
    from criimage.work import Work

__all__ = ["Pulled", "Pulls"]

_log = structlog.get_logger(__name__)


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
class _Key:
    candidates: tuple[Reference, ...]
    credentials: Credentials | None
    namespace: str


@dataclass(slots=True, eq=False)
class _Pull:
    """One running pull and who waits for it."""

    key: _Key
    name: Name
    done: asyncio.Event = field(default_factory=asyncio.Event)
    waiters: int = 0
    task: asyncio.Task[None] | None = None
    outcome: Pulled | CriimageError = field(default_factory=lambda: OperationFailed("the pull ended without a result"))
    progress: PullProgress = field(default_factory=PullProgress)


class Pulls:
    """The pulls of one backend.

    Args:
        backend: does the pulling.
        work: where pulls run, apart from the callers' tasks.
    """

    def __init__(self, backend: Backend, work: Work) -> None:
        self._backend = backend
        self._work = work
        self._running: dict[_Key, _Pull] = {}
        self._stopping = False

    async def pull(self, name: Name, credentials: Credentials | None, context: PullContext) -> Pulled:
        """Pull the image that `name` means, or join a pull of it that is running.

        Candidates are tried in order; the first that succeeds ends the loop (cri-o P2). If none does, the last one's
        error is raised, and its text names the earlier ones (P3).

        After a cancel the pull goes on for those who still wait, and is stopped if nobody does.

        Raises:
            CriimageError: as the backend's `resolve` and `pull` do; PullCancelled if the server stops.
        """
        candidates = await self._backend.resolve(name)
        if self._stopping:
            raise PullCancelled("the image service is stopping")
        key = _Key(candidates, credentials, context.namespace)
        pull = self._running.get(key)
        if pull is None:
            pull = self._running[key] = _Pull(key, name)
            pull.task = self._work.start(self._run(pull, context), name=f"pull {name}")
        return await self._wait(pull)

    async def _wait(self, pull: _Pull) -> Pulled:
        pull.waiters += 1
        try:
            await pull.done.wait()
        finally:
            pull.waiters -= 1
            if not pull.waiters and not pull.done.is_set():
                self._abandon(pull, PullCancelled("nobody waits for the pull any more"))
        if isinstance(pull.outcome, CriimageError):
            raise pull.outcome.for_another_waiter()
        return pull.outcome

    def cancel_all(self) -> None:
        """End every pull and take no more; their waiters are told that the service is stopping."""
        self._stopping = True
        for pull in list(self._running.values()):
            self._abandon(pull, PullCancelled("the image service is stopping"))

    def _abandon(self, pull: _Pull, reason: PullCancelled) -> None:
        # The key is free at once, so that a new caller does not join a pull that is ending.
        if self._running.get(pull.key) is pull:
            del self._running[pull.key]
        pull.outcome = reason
        pull.done.set()  # here, because a task that is cancelled before its first step never gets to it
        if pull.task is not None:
            pull.task.cancel()

    async def _run(self, pull: _Pull, context: PullContext) -> None:
        start = time.monotonic()
        log = _log.bind(reference=str(pull.name), namespace=context.namespace, pod=context.pod)
        log.info("pull started", candidates=[str(candidate) for candidate in pull.key.candidates])
        try:
            pull.outcome = await self._first_success(pull, context)
            log.info(
                "pull finished",
                resolved=str(pull.outcome.reference),
                image=str(pull.outcome.image.id),
                seconds=round(time.monotonic() - start, 3),
            )
        except CriimageError as error:
            pull.outcome = error
            log.warning("pull failed", kind=error.kind, error=error.text, seconds=round(time.monotonic() - start, 3))
        except asyncio.CancelledError:
            log.info("pull cancelled", seconds=round(time.monotonic() - start, 3))
            raise
        except Exception:
            log.exception("pull failed: fault in the backend")
            pull.outcome = OperationFailed("internal error, the log of the image service says more")
        finally:
            if self._running.get(pull.key) is pull:
                del self._running[pull.key]
            pull.done.set()

    async def _first_success(self, pull: _Pull, context: PullContext) -> Pulled:
        failures: list[tuple[Reference, CriimageError]] = []
        for candidate in pull.key.candidates:
            try:
                image = await self._pull_candidate(pull, candidate, context)
                return Pulled(image, candidate)
            except CriimageError as error:
                _log.debug("candidate failed", candidate=str(candidate), kind=error.kind, error=error.text)
                failures.append((candidate, error))
        if not failures:
            raise OperationFailed(f"{pull.name} does not resolve to any reference")
        *earlier, (_, last) = failures
        if not earlier:
            raise last
        others = "; ".join(f"{candidate}: {error.text}" for candidate, error in earlier)
        raise last.with_text(f"{last.text}; earlier: {others}") from last

    async def _pull_candidate(self, pull: _Pull, candidate: Reference, context: PullContext) -> Image:
        credentials = pull.key.credentials
        withheld = credentials is not None and not credentials.meant_for(candidate.domain)

        def report(progress: PullProgress) -> None:
            pull.progress = progress

        try:
            return await self._backend.pull(candidate, None if withheld else credentials, context, report)
        except PullError as error:
            if not withheld:
                raise
            note = f"the credentials were not sent: they name another registry than {candidate.domain}"
            raise error.with_text(f"{error.text} ({note})") from error
