"""The loop over what a name may mean, and whose error wins (cri-o P2, P3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from criimage.backend import Phase, PullProgress
from criimage.errors import CriimageError, OperationFailed, PullError
from criimage.pulls.deadlines import within_deadlines
from criimage.pulls.running import Pulled

if TYPE_CHECKING:
    from criimage.backend import Backend, Image
    from criimage.pulls.places import Places
    from criimage.pulls.running import RunningPull
    from criimage.reference import Reference

__all__ = ["pull_first"]

_log = structlog.get_logger(__name__)


async def pull_first(backend: Backend, places: Places, pull: RunningPull) -> Pulled:
    """Try the candidates in order until one succeeds.

    Raises:
        CriimageError: the last candidate's; its text names the earlier ones' after its own.
    """
    failures: list[tuple[Reference, CriimageError]] = []
    for candidate in pull.key.candidates:
        try:
            return Pulled(await _pull_one(backend, places, pull, candidate), candidate)
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


async def _pull_one(backend: Backend, places: Places, pull: RunningPull, candidate: Reference) -> Image:
    credentials = pull.key.credentials
    withheld = credentials is not None and not credentials.meant_for(candidate.domain)
    pull.turn_to(candidate)
    try:
        async with places.take(candidate.domain) as place:
            pull.report(PullProgress(Phase.RESOLVING))
            work = backend.pull(candidate, None if withheld else credentials, pull.context, pull.report)
            policy = places.policy.of(candidate.domain)
            watches = backend.reports_progress
            return await within_deadlines(work, pull, candidate, policy, place, watches_progress=watches)
    except PullError as error:
        if not withheld:
            raise
        note = f"the credentials were not sent: they name another registry than {candidate.domain}"
        raise error.with_text(f"{error.text} ({note})") from error
