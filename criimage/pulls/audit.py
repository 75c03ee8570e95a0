"""One structured line for every pull that ended, and lines on the way of a long one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from criimage.errors import CriimageError

if TYPE_CHECKING:
    from criimage.pulls.running import RunningPull

__all__ = ["PROGRESS_SECONDS", "log_end", "log_progress", "log_start"]

_log = structlog.get_logger(__name__)

PROGRESS_SECONDS = 10.0
"""How often a long pull is logged."""


def log_start(pull: RunningPull) -> None:
    """Log that a pull begins."""
    candidates = [str(candidate) for candidate in pull.key.candidates]
    _log.info("pull started", **_who(pull), candidates=candidates)


def log_progress(pull: RunningPull) -> None:
    """Log how far a pull is."""
    _log.info("pull goes on", **_who(pull), **_how_far(pull), rate=round(pull.rate), waiters=len(pull.waiters))


def log_end(pull: RunningPull) -> None:
    """Log how a pull ended: who asked for what, what came of it, and whose credentials were used; never a secret."""
    outcome = pull.outcome
    fields = {**_who(pull), **_how_far(pull), "callers": pull.callers, "credentials": _source(pull)}
    if isinstance(outcome, CriimageError):
        _log.warning("pull failed", **fields, outcome=outcome.kind, error=outcome.text)
        return
    repository = outcome.reference.repository
    digest = next((name.digest for name in outcome.image.digests if name.repository == repository), None)
    _log.info(
        "pull finished",
        **fields,
        outcome="unchanged" if pull.progress.unchanged else "pulled",
        image=str(outcome.image.id),
        digest=digest,
    )


def _who(pull: RunningPull) -> dict[str, object]:
    return {
        "pull": pull.id,
        "reference": str(pull.name),
        "namespace": pull.context.namespace,
        "pod": pull.context.pod,
        "asked_by": pull.peers.named(),
    }


def _how_far(pull: RunningPull) -> dict[str, object]:
    progress = pull.progress
    return {
        "resolved": str(pull.candidate) if pull.candidate else None,
        "phase": progress.phase.value,
        "bytes": progress.bytes_done,
        "bytes_total": progress.bytes_total,
        "layers": progress.layers_done,
        "layers_total": progress.layers_total,
        "layers_reused": progress.layers_reused,
        "seconds": round(pull.seconds, 3),
    }


def _source(pull: RunningPull) -> str:
    if pull.progress.credential_source:
        return pull.progress.credential_source
    credentials = pull.key.credentials
    if credentials is None:
        return "none in the request"
    return "request" if pull.candidate is None or credentials.meant_for(pull.candidate.domain) else "withheld"
