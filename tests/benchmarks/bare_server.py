"""The least that a gRPC server in Python can be: one method that answers Version.

`bare_server.py unix:///PATH`
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.server import Server

if TYPE_CHECKING:
    from grpclib.server import Stream

_ANSWER = b"\x0a\x050.1.0\x12\x04bare\x1a\x010\x22\x02v1"


class _Bytes(CodecBase):
    """Passes messages through."""

    __content_subtype__ = "proto"

    def encode(self, message: bytes, message_type: object) -> bytes:
        return message

    def decode(self, data: bytes, message_type: object) -> bytes:
        return data


class _Service:
    async def version(self, stream: Stream[bytes, bytes]) -> None:
        await stream.recv_message()
        await stream.send_message(_ANSWER)

    def __mapping__(self) -> dict[str, Handler]:
        return {"/runtime.v1.RuntimeService/Version": Handler(self.version, Cardinality.UNARY_UNARY, bytes, bytes)}


async def _serve(path: str) -> None:
    server = Server([_Service()], codec=_Bytes())
    await server.start(path=path)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1].removeprefix("unix://")))
