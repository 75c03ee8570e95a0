"""What each lever of the hot path saves, by taking one away at a time; the server has no switches for them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock, patch

import structlog

from criimage import logs
from criimage.metrics import NoMetrics, PrometheusMetrics, error_kinds
from criimage.server.calls import observe
from criimage.server.http2 import hardening
from criimage.server.http2.hot import header_blocks, reads, rest
from criimage.server.services import images, replies
from parts.two_ways import reply_by_h2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

__all__ = ["LEVERS", "without"]


def _no_status(self: replies.ImageReplies, details: Any) -> bytes:  # noqa: ANN401 - as the real one
    return b"" if details is None else self._encode_status(details)


def _bound(operation: str) -> None:
    structlog.contextvars.bind_contextvars(request=logs.new_request_id(), operation=operation)


@functools.cache
def _counting(operation: str) -> PrometheusMetrics:
    return PrometheusMetrics("memory", [operation], error_kinds())


def _counted(_: NoMetrics, operation: str, seconds: float, error_kind: str | None) -> None:
    _counting(operation).observe(operation, seconds, error_kind)


def _none_with_updates(*arguments: Any) -> rest.Rest | None:  # noqa: ANN401 - as the real one
    found = rest.rest_of(*arguments)
    return None if found is None or found.updates else found


def _left(self: reads.Reads, data: bytes) -> None:
    self._leave(data)


def _replied(h2: Any, stream: int, message: bytes, _: object) -> bool:  # noqa: ANN401 - h2's connection
    return reply_by_h2(h2, stream, message)


LEVERS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "blocks that mean the same again": lambda: patch.object(header_blocks, "_KEPT_SIZE", -1),
    "what a status asks for read once": lambda: patch.object(images, "_SHORT", -1),
    "a status's bytes kept": lambda: patch.object(replies.ImageReplies, "status", _no_status),
    "headers made a dictionary only where they are new": lambda: patch.object(
        header_blocks.BlockDecoder, "keeps", lambda *_: False
    ),
    "request IDs and context variables only for what is logged": lambda: patch.object(logs, "begin_call", _bound),
    "lines of the log made only where they are shown": lambda: patch.object(
        observe, "_seen", Mock(**{"isEnabledFor.return_value": True})
    ),
    "figures counted only for metrics that are on": lambda: patch.object(NoMetrics, "observe", _counted),
    "requests with window updates": lambda: patch.object(reads, "rest_of", _none_with_updates),
    "frames of the connection without h2": lambda: patch.object(reads.Reads, "_of_connection", lambda *_: False),
    "whole calls without h2 and without a task": lambda: patch.object(reads.Reads, "take", _left),
    "and answers in one piece": lambda: patch.object(hardening, "write_reply_of", _replied),
}
"""What is taken away, and how. The last one makes a difference only where the one before is gone too."""


def without(names: Iterable[str]) -> Iterator[AbstractContextManager[object]]:
    """What takes these levers away while it is entered."""
    return (LEVERS[name]() for name in names)
