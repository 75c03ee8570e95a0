"""The standard gRPC health service, on whether the service can work.

Written on bytes, because grpclib's brings google's protobuf with it: 10 MB for a message of one field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpclib.const import Status

from criimage import wire
from criimage.server.calls.call import CallFailed
from criimage.server.calls.method import Method, server_stream, unary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from criimage.server.services.readiness import Readiness
    from criimage.server.services.stopping import Stopping

__all__ = ["HealthService"]

_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3
WATCH_SECONDS = 5.0


class HealthService:
    """`grpc.health.v1.Health` for the whole server (empty name) and each of its services.

    Args:
        readiness: SERVING means that it has no problem.
        services: full names of the services that may be asked about.
        stopping: ends the watching.
    """

    def __init__(self, readiness: Readiness, services: Iterable[str], stopping: Stopping) -> None:
        self._readiness = readiness
        self._stopping = stopping
        self._services = {"", *services}

    def methods(self) -> list[Method]:
        """Return Check and Watch."""
        return [
            unary("/grpc.health.v1.Health/Check", self._check),
            server_stream("/grpc.health.v1.Health/Watch", self._watch),
        ]

    async def _check(self, request: bytes) -> bytes:
        service = _service(request)
        if service not in self._services:
            raise CallFailed(Status.NOT_FOUND, "unknown service")
        return wire.varint_field(1, await self._state())

    async def _watch(self, request: bytes) -> AsyncIterator[bytes]:
        known = _service(request) in self._services
        last = None
        while not self._stopping:
            state = await self._state() if known else _SERVICE_UNKNOWN
            if state != last:
                yield wire.varint_field(1, state)
                last = state
            await self._stopping.pause(WATCH_SECONDS)

    async def _state(self) -> int:
        return _NOT_SERVING if await self._readiness.problems() else _SERVING


def _service(request: bytes) -> str:
    service = ""
    for number, _, value in wire.fields(request):
        if number == 1:
            service = wire.text(value)
    return service
