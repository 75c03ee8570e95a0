"""The attempts of a pull: each thing that a name may mean in order, until one succeeds, and whose error wins (P2, P3).

Each attempt has a slot and a clock. The clock cuts off what stands still or takes too long: it starts with the request
to the registry, so a token or manifest that never comes counts as well (cri-o P15 starts it with the first event, and
such a pull then hangs for ever). Only a real change sets it back; unpacking is one. The registry's silence and waiting
for the store have a clock each.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from criimage.backend import Phase, PullProgress
from criimage.duration import duration_text
from criimage.errors import CriimageError, OperationFailed, PullError, PullTimeout, RateLimited
from criimage.pulls.running import Pulled
from criimage.reference import registry_host

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from criimage.backend import Backend, Image
    from criimage.pulls.limiter import Limiter, Slot
    from criimage.pulls.policy import RegistryPolicy
    from criimage.pulls.running import RunningPull
    from criimage.reference import Reference

__all__ = ["SILENCE_SECONDS", "STANDSTILL_SECONDS", "pull_first"]

_log = structlog.get_logger(__name__)

STANDSTILL_SECONDS = 5.0
"""Seconds without progress after which a pull gives its slot away (limiter.py)."""

SILENCE_SECONDS = 1.0
"""The same for a registry that has not even told what the image is made of: that takes no bandwidth."""

STOP_SECONDS = 5.0
"""How long the callers of a pull that was cut off wait for its work to stop; the slot stays taken until it has."""

_DOING = {
    Phase.RESOLVING: "while waiting for the registry to answer",
    Phase.DOWNLOADING: "while downloading layers",
}
_OF_THE_STORE = frozenset({Phase.UNPACKING, Phase.WAITING_FOR_STORE})
"""Phases in which the registry owes nothing."""


async def pull_first(backend: Backend, limiter: Limiter, pull: RunningPull) -> Pulled:
    """Try the candidates in order until one succeeds.

    Raises:
        CriimageError: the last candidate's; its text names the earlier ones' after its own.
    """
    failures: list[tuple[Reference, CriimageError]] = []
    for candidate in pull.key.candidates:
        try:
            return Pulled(await _pull_one(backend, limiter, pull, candidate), candidate)
        except CriimageError as error:
            if pull.done.is_set():
                raise  # nobody waits for another one
            _log.debug("candidate failed", candidate=str(candidate), kind=error.kind, error=error.text)
            failures.append((candidate, error))
    if not failures:
        raise OperationFailed(f"{pull.name} does not resolve to any reference")
    *earlier, (_, last) = failures
    if not earlier:
        raise last
    others = "; ".join(f"{candidate}: {error.text}" for candidate, error in earlier)
    raise last.with_text(f"{last.text}; earlier: {others}") from last


async def _pull_one(backend: Backend, limiter: Limiter, pull: RunningPull, candidate: Reference) -> Image:
    credentials = pull.key.credentials
    withheld = credentials is not None and not credentials.meant_for(candidate.domain)
    pull.turn_to(candidate)
    registry = registry_host(candidate.domain)
    try:
        async with limiter.take(registry) as slot:
            pull.report(PullProgress(Phase.RESOLVING))
            work = backend.pull(candidate, None if withheld else credentials, pull.context, pull.report)
            policy = limiter.policy.of(registry)
            watches = backend.reports_progress
            return await _within_deadlines(work, pull, candidate, policy, slot, watches_progress=watches)
    except PullError as error:
        if not withheld:
            raise
        note = f"the credentials were not sent: they name another registry than {candidate.domain}"
        raise error.with_text(f"{error.text} ({note})") from error


class _Clock:
    """The timers of one attempt: one for the registry's silence, one for the store's, never both at once.

    Each counts while it is its own turn, and real progress sets both back. Going to and fro between the two is none, so
    that a pull which does only that ends all the same.
    """

    def __init__(
        self,
        pull: RunningPull,
        candidate: Reference,
        policy: RegistryPolicy,
        slot: Slot,
        *,
        watches_progress: bool,
    ) -> None:
        self._candidate = candidate
        self._loop = asyncio.get_running_loop()
        self._pull = pull
        self._policy = policy
        self._slot = slot
        self._watches = watches_progress
        # Of the whole pull, so that several candidates do not get it several times.
        if pull.first_turn is None:
            pull.first_turn = self._loop.time()
        self._end = pull.first_turn + policy.total_timeout if policy.total_timeout else None
        self._standstill: asyncio.TimerHandle | None = None
        self._giving_up: asyncio.TimerHandle | None = None
        self._total = False
        self._registry_seconds = self._store_seconds = 0.0
        self._seen = pull.progress
        self._stage = pull.progress.phase
        self._since = self._loop.time()
        self.limit = asyncio.timeout(None)

    def moved(self) -> None:
        """Count what has passed for whoever was waited for, and set a timer for whoever is waited for now."""
        before, now, moment = self._seen, self._pull.progress, self._loop.time()
        if before.phase in _OF_THE_STORE:
            self._store_seconds += moment - self._since
        else:
            self._registry_seconds += moment - self._since
        if _is_progress(before, now, self._stage):
            self._registry_seconds = self._store_seconds = 0.0
        self._seen, self._since = now, moment
        if now.phase is not Phase.WAITING_FOR_STORE:
            self._stage = now.phase
        self._watch_slot(now.phase)
        if not self.limit.expired():
            self._set_limit()

    def _set_limit(self) -> None:
        moment = self._next()
        self._total = moment is not None and moment == self._end
        self.limit.reschedule(moment)
        if self._giving_up is not None:
            self._giving_up.cancel()
        # What does not even stop when it is cut off keeps nobody waiting.
        self._giving_up = None
        if moment is not None:
            self._giving_up = self._loop.call_at(moment + STOP_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if self.limit.expired() and self._pull.answer is not None:
            self._pull.answer(self.failure())

    def _watch_slot(self, phase: Phase) -> None:
        # What waits for the store keeps its slot: whoever went ahead would only wait at the same door.
        self._slot.moves()
        if self._standstill is not None:
            self._standstill.cancel()
        if self._watches and phase not in _OF_THE_STORE:
            patience = SILENCE_SECONDS if phase is Phase.RESOLVING else STANDSTILL_SECONDS
            self._standstill = self._loop.call_later(patience, self._slot.stands_still)

    def _next(self) -> float | None:
        phase = self._seen.phase
        patience, spent = self._policy.progress_timeout, self._registry_seconds
        if phase in _OF_THE_STORE:
            patience, spent = self._policy.store_timeout, self._store_seconds
        counts = patience and (self._watches or phase is Phase.WAITING_FOR_STORE)
        silent = self._since + patience - spent if counts else None
        return min((moment for moment in (silent, self._end) if moment is not None), default=None)

    def failure(self) -> PullTimeout | RateLimited:
        """Return what is told when the limit has passed: the configured time, not the measured one (protocol 2.4)."""
        now, policy = self._pull.progress, self._policy
        if self._total:
            text = f"not complete within {duration_text(policy.total_timeout)}"
        elif now.phase is Phase.WAITING_FOR_STORE:
            text = f"the store kept it waiting for {duration_text(policy.store_timeout)}"
        elif now.phase is Phase.UNPACKING:
            text = f"no progress for {duration_text(policy.store_timeout)} while unpacking"
        elif now.retry_after is not None:
            return RateLimited(f"toomanyrequests: the registry asks to wait {now.retry_after} s: {self._candidate}")
        else:
            text = f"no progress for {duration_text(policy.progress_timeout)} {_DOING.get(now.phase, '')}".rstrip()
        return PullTimeout(f"pull cut off: {text}: {self._candidate}")

    def stop(self) -> None:
        for timer in (self._standstill, self._giving_up):
            if timer is not None:
                timer.cancel()


def _is_progress(before: PullProgress, now: PullProgress, stage: Phase) -> bool:
    """Tell whether a snapshot shows more than who is waited for; `stage` is the last phase that was no waiting."""
    if _figures(before) != _figures(now):
        return True
    return now.phase is not Phase.WAITING_FOR_STORE and (now.phase is not stage or now.activity != before.activity)


def _figures(progress: PullProgress) -> tuple[int | None, ...]:
    layers = (progress.layers_done, progress.layers_total, progress.layers_reused)
    return progress.bytes_done, progress.bytes_total, *layers


async def _within_deadlines(
    work: Awaitable[Image],
    pull: RunningPull,
    candidate: Reference,
    policy: RegistryPolicy,
    slot: Slot,
    *,
    watches_progress: bool,
) -> Image:
    """Await one attempt to pull; cancel it when a deadline passes.

    Args:
        work: the backend's pull.
        pull: reports into it move the clock.
        candidate: for the error's text.
        policy: the deadlines.
        slot: is given away while nothing moves.
        watches_progress: whether the backend reports enough that silence means a stall.

    Raises:
        PullTimeout: a deadline has passed; the work was cancelled and has ended.
        RateLimited: the same, and what was waited for is the time that the registry asked for.
    """
    clock = _Clock(pull, candidate, policy, slot, watches_progress=watches_progress)
    try:
        async with clock.limit:
            pull.on_change = clock.moved
            clock.moved()
            return await work
    except (TimeoutError, CriimageError) as error:
        # A backend may call it a failure of its own that it was stopped.
        if not clock.limit.expired():
            raise
        raise clock.failure() from error
    finally:
        pull.on_change = None
        clock.stop()
