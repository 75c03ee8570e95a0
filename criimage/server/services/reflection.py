"""gRPC reflection, by grpclib's own service; it and google's protobuf are imported when the first client asks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from criimage.errors import InvalidRequest
from criimage.server.calls.method import Method

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from criimage.server.calls.call import Call

__all__ = ["ReflectionService"]

_NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


class ReflectionService:
    """Tells clients such as grpcurl which services there are and what their messages look like.

    Args:
        services: full names of those to list besides itself; ours, and that of health.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._services = tuple(sorted({*services, *_NAMES}))
        self._handlers: dict[str, Any] | None = None
        self._loading = asyncio.Lock()

    def methods(self) -> list[Method]:
        """Return the method under both of its names."""
        return [Method(f"/{name}/ServerReflectionInfo", self._info) for name in _NAMES]

    async def _info(self, call: Call) -> None:
        async with self._loading:
            if self._handlers is None:
                self._handlers = await asyncio.to_thread(_handlers, self._services)
        handler = self._handlers[call.path]
        await handler.func(_MessageStream(call, handler.request_type.FromString))
        await call.finish()


def _handlers(services: tuple[str, ...]) -> dict[str, Any]:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpclib.health.v1 import health_pb2
    from grpclib.reflection.service import ServerReflection
    from grpclib.reflection.v1 import reflection_pb2
    from grpclib.reflection.v1alpha import reflection_pb2 as reflection_alpha_pb2

    from criimage.cri.descriptors import FILE_DESCRIPTOR_SET

    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(FILE_DESCRIPTOR_SET).file:
        pool.Add(file)
    # The standard's own services: a client such as grpcurl calls none whose messages it is not told.
    for module in (health_pb2, reflection_pb2, reflection_alpha_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    named = [_Named(service) for service in services]
    found: dict[str, Any] = {}
    for servable in ServerReflection.extend(named, pool=pool):
        if servable not in named:
            found.update(servable.__mapping__())
    return found


class _Named:
    """Something with a service's name, which is all that grpclib's reflection asks of a service."""

    def __init__(self, service: str) -> None:
        self._path = f"/{service}/"

    def __mapping__(self) -> dict[str, Any]:
        return {self._path: None}


class _MessageStream:
    """A call as grpclib's reflection wants it: messages of google's protobuf instead of bytes."""

    def __init__(self, call: Call, decode: Callable[[bytes], Any]) -> None:
        self._call = call
        self._decode = decode

    async def send_message(self, message: Any) -> None:  # noqa: ANN401 - any protobuf message
        await self._call.send(message.SerializeToString())

    def __aiter__(self) -> _MessageStream:
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401
        data = await self._call.receive()
        if data is None:
            raise StopAsyncIteration
        try:
            return self._decode(data)
        except Exception:  # noqa: BLE001 - google's DecodeError, whose module is not to be imported at start
            raise InvalidRequest("the request cannot be decoded") from None
