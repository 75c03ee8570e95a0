"""A client of nothing but google's own: grpcio, and messages made by google's protobuf from the served interfaces."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from criimage.cri.descriptors import FILE_DESCRIPTOR_SET
from parts.serving import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from google.protobuf.message import Message

_pool = DescriptorPool()
for _file in FileDescriptorSet.FromString(FILE_DESCRIPTOR_SET).file:
    _pool.Add(_file)


def message(name: str, /, **fields: Any) -> Any:  # noqa: ANN401 - made at run time
    """A message of google's, such as `message("runtime.v1.ImageSpec", image="a")`."""
    return GetMessageClass(_pool.FindMessageTypeByName(name))(**fields)


def deterministic(made: Message) -> bytes:
    """A message's bytes, with maps in order."""
    return bytes(made.SerializeToString(deterministic=True))


class GoogleClient:
    """Makes calls; every method runs in a thread of its own.

    Args:
        channel: open.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    async def raw(self, path: str, request: bytes = b"", seconds: float = PATIENCE) -> bytes:
        """Makes a call of one answer, in bytes."""
        call = self._channel.unary_unary(path, bytes, bytes)
        answer: bytes = await asyncio.to_thread(call, request, timeout=seconds)
        return answer

    async def stream(
        self, path: str, request: bytes = b"", first: int | None = None, found: list[bytes] | None = None
    ) -> list[bytes]:
        """Makes a call of several answers, in bytes, `found` as they come; cancels it after the first so many."""
        found = [] if found is None else found

        def collect() -> list[bytes]:
            call = self._channel.unary_stream(path, bytes, bytes)(request, timeout=PATIENCE)
            for answer in call:
                found.append(answer)
                if len(found) == first:
                    call.cancel()  # type: ignore[no-untyped-call]
                    break
            return found

        return await asyncio.to_thread(collect)

    async def call(self, version: str, method: str, **fields: Any) -> Any:  # noqa: ANN401
        """Calls a method of the image service in messages; the answer stands for exactly the bytes that came."""
        request = message(f"runtime.{version}.{method}Request", **fields)
        data = await self.raw(f"/runtime.{version}.ImageService/{method}", deterministic(request))
        answer = message(f"runtime.{version}.{method}Response")
        answer.ParseFromString(data)
        assert deterministic(answer) == data
        return answer

    async def error(self, path: str, request: bytes = b"", seconds: float = PATIENCE) -> tuple[grpc.StatusCode, str]:
        """Makes a call that fails, and returns how."""
        try:
            await self.raw(path, request, seconds)
        except grpc.RpcError as error:
            return error.code(), error.details() or ""
        raise AssertionError(f"{path} did not fail")


@contextmanager
def google_client(path: Path) -> Iterator[GoogleClient]:
    """A client of the server at this socket, until the block is left."""
    options = [("grpc.max_receive_message_length", 2**26), ("grpc.max_send_message_length", 2**26)]
    with grpc.insecure_channel(f"unix:{path}", options=options) as channel:
        yield GoogleClient(channel)
