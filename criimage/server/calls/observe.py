"""Tells logs and metrics about every call."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import structlog
from grpclib.const import Status

from criimage import logs
from criimage.errors import CriimageError
from criimage.server.calls.call import CallFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from criimage.metrics import Metrics

__all__ = ["CallObserver", "error_kind"]

_log = structlog.get_logger(__name__)
_seen = logging.getLogger(__name__)

_KINDS = {Status.DEADLINE_EXCEEDED: "deadline", Status.PERMISSION_DENIED: "denied"}
_LOGGED_AT_INFO = frozenset({"PullImage", "RemoveImage"})


def error_kind(status: Status, error: BaseException | None) -> str | None:
    """Return the kind of a failed call as metrics and logs name it, or None for one that went well."""
    if error is None:
        return None if status is Status.OK else "bad_call"
    if isinstance(error, CriimageError):
        return error.kind
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if isinstance(error, CallFailed):
        return _KINDS.get(status, "bad_call")
    return "internal"


class CallObserver:
    """Logs calls and counts them.

    Args:
        metrics: takes the figures.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    reads_headers: frozenset[bytes] = frozenset()

    def began(self, operation: str, _path: str, _header: Callable[[str], str]) -> None:
        """Bind a request ID to everything that the call's task logs."""
        logs.begin_call(operation)

    def ended(self, operation: str, status: Status, error: BaseException | None, seconds: float) -> None:
        """Count the call; log it, louder the stranger its end."""
        kind = error_kind(status, error)
        self._metrics.observe(operation, seconds, kind)
        if kind is None and operation not in _LOGGED_AT_INFO and not _seen.isEnabledFor(logging.DEBUG):
            return  # nearly all there is: nothing is made up for nobody
        fields = {"operation": operation, "status": status.name, "seconds": round(seconds, 4)}
        if kind == "internal":
            _log.error("call failed: fault in the image service", **fields, exc_info=error)
        elif isinstance(error, asyncio.CancelledError):
            _log.debug("call left by its client", **fields)
        elif kind == "denied":
            # Who may make no calls is told when it connects, sparingly; its calls must not fill the log.
            _log.debug("call denied", **fields)
        elif kind is not None:
            text = getattr(error, "text", "")
            _log.info("call failed", **fields, kind=kind, error=text)
        elif operation in _LOGGED_AT_INFO:
            _log.info("call answered", **fields)
        else:
            _log.debug("call answered", **fields)
