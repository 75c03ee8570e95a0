"""Calls and pulls of one raw client, as several tests of the server make them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpclib.const import Status

from criimage.testing.memory import RemoteImage
from parts.raw_client import framed, grpc_headers
from parts.serving import WatchedBackend, stocked
from server.methods import LIST, PULL, field, spec

if TYPE_CHECKING:
    from parts.raw_client import Answer, RawClient

NAME = "example.com/a:1"
NUMBER = RemoteImage("a1").id.hex.encode()


def auth(user: str, password: str = "", server: str = "") -> bytes:
    """An AuthConfig in its field."""
    return field(2, field(1, user) + field(2, password) + (field(4, server) if server else b""))


def sandbox(namespace: str, pod: str = "p") -> bytes:
    """A PodSandboxConfig in its field, with something in it that we do not know."""
    return field(3, field(1, field(1, pod) + field(3, namespace)) + field(999, "kept"))


async def begin(client: RawClient, *more: bytes, name: str = NAME, timeout: str | None = None) -> Answer:
    """Starts a pull."""
    headers = grpc_headers(PULL, {"grpc-timeout": timeout})
    return await client.send(headers, framed(spec(name) + b"".join(more)))


async def settled(client: RawClient) -> None:
    """Everything sent before on this connection has been taken, and every task has had its turn."""
    for _ in range(3):
        assert (await client.call(LIST)).status == 0


def held() -> WatchedBackend:
    """A backend whose downloads wait."""
    backend = WatchedBackend(stocked())
    backend.open.clear()
    return backend


def pulled(answer: Answer) -> None:
    """The pull went well."""
    assert answer.status == 0, answer.message
    assert answer.messages == [field(1, NUMBER)]


async def answers(client: RawClient) -> None:
    """The server answers on this connection."""
    answer = await client.call(LIST)
    assert answer.status == Status.OK.value
