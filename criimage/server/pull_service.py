"""Our own `criimage.v1.PullService`: what pulls are running, as it changes, and the way to end one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpclib.const import Status

from criimage.backend import Phase
from criimage.cri.criimage.v1 import (
    CancelPullRequest,
    CancelPullResponse,
    ListPullsRequest,
    ListPullsResponse,
    Pull,
    PullPhase,
    PullWaiter,
    WatchPullsRequest,
    WatchPullsResponse,
)
from criimage.server.calls import CallFailed, Method, server_stream, unary
from criimage.server.strict import parse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from criimage.pulls.running import PullView
    from criimage.pulls.sharing import Pulls
    from criimage.server.stopping import Stopping

__all__ = ["PULL_SERVICE", "PullService"]

PULL_SERVICE = "criimage.v1.PullService"
WATCH_SECONDS = 0.25
"""How often a watcher is told how far pulls are."""

PAUSE_SECONDS = 0.1
"""How long a watcher is left alone at least, however many pulls begin and end."""

_PHASES = {phase: PullPhase.from_string(phase.name) for phase in Phase}


class PullService:
    """ListPulls, WatchPulls and CancelPull.

    Args:
        pulls: what runs.
        stopping: ends the watching.
    """

    def __init__(self, pulls: Pulls, stopping: Stopping) -> None:
        self._pulls = pulls
        self._stopping = stopping

    def methods(self) -> list[Method]:
        """Return the three methods."""
        return [
            unary(f"/{PULL_SERVICE}/ListPulls", self._list),
            server_stream(f"/{PULL_SERVICE}/WatchPulls", self._watch),
            unary(f"/{PULL_SERVICE}/CancelPull", self._cancel),
        ]

    async def _list(self, request: bytes) -> bytes:
        parse(ListPullsRequest, request)
        return bytes(ListPullsResponse(pulls=[_message(view) for view in self._pulls.running()]))

    async def _watch(self, request: bytes) -> AsyncGenerator[bytes, None]:
        parse(WatchPullsRequest, request)
        mark = self._pulls.ended_count
        sent: bytes | None = None
        while not self._stopping:
            ended = self._pulls.ended_since(mark)
            mark = self._pulls.ended_count
            message = bytes(WatchPullsResponse(pulls=[_message(view) for view in (*ended, *self._pulls.running())]))
            if message != sent:
                yield message
                sent = message
            await self._stopping.pause(PAUSE_SECONDS)
            if mark == self._pulls.ended_count:
                await self._pulls.news(WATCH_SECONDS - PAUSE_SECONDS)

    async def _cancel(self, request: bytes) -> bytes:
        asked = parse(CancelPullRequest, request)
        if not self._pulls.cancel(asked.id):
            raise CallFailed(Status.NOT_FOUND, "no such pull is running")
        return bytes(CancelPullResponse())


def _message(view: PullView) -> Pull:
    progress = view.progress
    return Pull(
        id=view.id,
        reference=view.reference,
        resolved=view.resolved,
        phase=_PHASES[progress.phase],
        bytes_done=progress.bytes_done,
        bytes_total=progress.bytes_total or 0,
        layers_done=progress.layers_done,
        layers_total=progress.layers_total or 0,
        layers_reused=progress.layers_reused or 0,
        bytes_per_second=round(view.rate),
        started=round(view.started * 1e9),
        waiters=[PullWaiter(pod=pod) for pod in view.waiters],
    )
