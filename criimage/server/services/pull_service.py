"""Our own `criimage.v1.PullService`: what pulls are running, as it changes, and the way to end one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from grpclib.const import Status

from criimage import wire
from criimage.backend import Phase
from criimage.server.calls.call import CallFailed
from criimage.server.calls.method import Method, server_stream, unary
from criimage.server.services import requests

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from criimage.pulls.running import PullView
    from criimage.pulls.sharing import Pulls
    from criimage.server.services.stopping import Stopping

__all__ = ["PullService", "encode_pulls"]

_PULL_SERVICE = "criimage.v1.PullService"
WATCH_SECONDS = 0.25
"""How often a watcher is told how far pulls are."""

PAUSE_SECONDS = 0.1
"""How long a watcher is left alone at least, however many pulls begin and end."""

SHARED_SECONDS = 0.1
"""How old figures may be that one watcher is told because another one has just been."""

_PHASES = {
    Phase.QUEUED: 1,
    Phase.RESOLVING: 2,
    Phase.DOWNLOADING: 3,
    Phase.UNPACKING: 4,
    Phase.DONE: 5,
    Phase.FAILED: 6,
    Phase.WAITING_FOR_STORE: 7,
}
"""As the enum PullPhase has them."""


class PullService:
    """ListPulls, WatchPulls and CancelPull.

    Args:
        pulls: what runs.
        stopping: ends the watching.
    """

    def __init__(self, pulls: Pulls, stopping: Stopping) -> None:
        self._pulls = pulls
        self._stopping = stopping
        self._kept: tuple[int, float, bytes] | None = None

    def methods(self) -> list[Method]:
        """Return the three methods."""
        return [
            unary(f"/{_PULL_SERVICE}/ListPulls", self._list),
            server_stream(f"/{_PULL_SERVICE}/WatchPulls", self._watch),
            unary(f"/{_PULL_SERVICE}/CancelPull", self._cancel),
        ]

    async def _list(self, request: bytes) -> bytes:
        requests.read_empty(request)
        return encode_pulls(self._pulls.running())

    async def _watch(self, request: bytes) -> AsyncGenerator[bytes, None]:
        requests.read_empty(request)
        mark = self._pulls.ended_count
        sent: bytes | None = None
        while not self._stopping:
            ended = self._pulls.ended_since(mark)
            mark = self._pulls.ended_count
            message = encode_pulls(ended) + self._running()
            if message != sent:
                yield message
                sent = message
            await self._stopping.pause(PAUSE_SECONDS)
            if mark == self._pulls.ended_count:
                await self._pulls.news(WATCH_SECONDS - PAUSE_SECONDS)

    def _running(self) -> bytes:
        """Return the pulls that run, for a watcher: encoded once for all who look at about the same moment.

        A pull that has begun or ended since is told as it is: whoever was told of its end never sees it run again.
        """
        changes, now = self._pulls.changes, time.monotonic()
        kept = self._kept
        if kept is None or kept[0] != changes or now - kept[1] > SHARED_SECONDS:
            kept = self._kept = changes, now, encode_pulls(self._pulls.running())
        return kept[2]

    async def _cancel(self, request: bytes) -> bytes:
        if not self._pulls.cancel(requests.read_text(request)):
            raise CallFailed(Status.NOT_FOUND, "no such pull is running")
        return b""


def encode_pulls(views: Iterable[PullView]) -> bytes:
    """Return a ListPullsResponse, which is a WatchPullsResponse on the wire as well.

    By hand: watchers get all of it some times a second, and message objects would hold up other calls for 80 ms at 500
    pulls.
    """
    return b"".join(wire.length_delimited(1, _pull(view)) for view in views)


def _pull(view: PullView) -> bytes:
    progress = view.progress
    texts = enumerate((view.id, view.reference, view.resolved), start=1)
    numbers = (
        _PHASES[progress.phase],
        progress.bytes_done,
        progress.bytes_total,
        progress.layers_done,
        progress.layers_total,
        progress.layers_reused,
        round(view.rate),
        round(view.started * 1e9),
    )
    parts = [wire.text_field(number, text) for number, text in texts if text]
    parts += [wire.varint_field(number, value or 0) for number, value in enumerate(numbers, start=4)]
    parts += [wire.length_delimited(12, wire.text_field(1, pod) if pod else b"") for pod in view.waiters]
    return b"".join(parts)
