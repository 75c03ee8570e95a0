"""Our own `criimage.v1.RemovalService`: what removals are running, and the way to end one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpclib.const import Status

from criimage.cri.criimage.v1 import (
    CancelRemovalRequest,
    CancelRemovalResponse,
    ListRemovalsRequest,
    ListRemovalsResponse,
    Removal,
)
from criimage.server.calls import CallFailed, Method, unary
from criimage.server.strict import parse

if TYPE_CHECKING:
    from criimage.removals import Removals, RemovalView

__all__ = ["REMOVAL_SERVICE", "RemovalService"]

REMOVAL_SERVICE = "criimage.v1.RemovalService"


class RemovalService:
    """ListRemovals and CancelRemoval.

    Args:
        removals: what runs.
    """

    def __init__(self, removals: Removals) -> None:
        self._removals = removals

    def methods(self) -> list[Method]:
        """Return the two methods."""
        return [
            unary(f"/{REMOVAL_SERVICE}/ListRemovals", self._list),
            unary(f"/{REMOVAL_SERVICE}/CancelRemoval", self._cancel),
        ]

    async def _list(self, request: bytes) -> bytes:
        parse(ListRemovalsRequest, request)
        return bytes(ListRemovalsResponse(removals=list(map(_message, self._removals.running()))))

    async def _cancel(self, request: bytes) -> bytes:
        asked = parse(CancelRemovalRequest, request)
        if not self._removals.cancel(asked.id):
            raise CallFailed(Status.NOT_FOUND, "no such removal is running")
        return bytes(CancelRemovalResponse())


def _message(view: RemovalView) -> Removal:
    return Removal(
        view.id,
        view.image,
        view.image_id,
        view.waiting_for,
        view.stopping,
        round(view.started * 1e9),
        view.waiters,
    )
