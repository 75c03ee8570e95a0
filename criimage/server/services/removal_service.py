"""Our own `criimage.v1.RemovalService`: what removals are running, and the way to end one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpclib.const import Status

from criimage import wire
from criimage.server.calls.call import CallFailed
from criimage.server.calls.method import Method, unary
from criimage.server.services import requests

if TYPE_CHECKING:
    from criimage.removals import Removals, RemovalView

__all__ = ["RemovalService"]

_REMOVAL_SERVICE = "criimage.v1.RemovalService"


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
            unary(f"/{_REMOVAL_SERVICE}/ListRemovals", self._list),
            unary(f"/{_REMOVAL_SERVICE}/CancelRemoval", self._cancel),
        ]

    async def _list(self, request: bytes) -> bytes:
        requests.read_empty(request)
        return b"".join(wire.length_delimited(1, _removal(view)) for view in self._removals.running())

    async def _cancel(self, request: bytes) -> bytes:
        if not self._removals.cancel(requests.read_text(request)):
            raise CallFailed(Status.NOT_FOUND, "no such removal is running")
        return b""


def _removal(view: RemovalView) -> bytes:
    texts = enumerate((view.id, view.image, view.image_id, view.waiting_for), start=1)
    parts = [wire.text_field(number, text) for number, text in texts if text]
    numbers = enumerate((view.stopping, round(view.started * 1e9), view.waiters), start=5)
    return b"".join((*parts, *(wire.varint_field(number, value) for number, value in numbers)))
