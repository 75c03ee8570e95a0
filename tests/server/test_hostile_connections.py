"""Bytes that are no HTTP/2, connections that say nothing, and odd headers: this connection ends, or none does."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest
from grpclib.const import Status

from parts.raw_client import framed, grpc_headers, raw_client
from parts.serving import serving, until
from server.methods import LIST, PULL
from server.test_hostile_input import attacked

if TYPE_CHECKING:
    from pathlib import Path

OK, UNIMPLEMENTED = Status.OK.value, Status.UNIMPLEMENTED.value


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"\0" * 5000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x40\x01" + b"\xff" * 17_000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x04\x01\x04\x00\x00\x00\x01\xff\xff\xff\xff",
    ],
    ids=["HTTP/1", "half a preface", "TLS", "zeros", "too large a frame", "headers before settings"],
)
async def test_another_protocol(tmp_path: Path, garbage: bytes) -> None:
    """The server closes the connection and goes on (python-stack 2)."""
    async with serving(tmp_path) as running:
        reader, writer = await asyncio.open_unix_connection(str(running.path))
        writer.write(garbage)
        while await reader.read(2**16):
            pass
        writer.close()
        async with raw_client(running.path) as client:
            assert (await client.call(LIST)).status == OK
        await until(lambda: not running.server.connections)


@pytest.mark.parametrize(
    "sent", [b"", b"PRI * HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00"]
)
@pytest.mark.parametrize("half", [False, True], ids=["silent", "half closed"])
async def test_connections_that_say_nothing_more(tmp_path: Path, sent: bytes, half: bool) -> None:
    """Hundreds of them hold up nobody; one whose client has closed its side is closed, the others at the end."""
    async with serving(tmp_path) as running:
        open_ones = []
        for _ in range(200):
            with_it = socket.socket(socket.AF_UNIX)
            with_it.connect(str(running.path))
            with_it.send(sent)
            if half:
                with_it.shutdown(socket.SHUT_WR)
            open_ones.append(with_it)
        async with raw_client(running.path) as client:
            assert (await client.call(LIST)).status == OK
            await until(lambda: len(running.server.connections) == (1 if half else 201))
    for with_it in open_ones:
        with_it.settimeout(10)
        while with_it.recv(2**16):
            pass
        with_it.close()


@pytest.mark.parametrize(
    "headers",
    [
        [("x-large", "v" * 100_000)],
        [(f"x-many-{n}", "v" * 100) for n in range(1000)],
        [("x-" + "n" * 70_000, "v")],
        [("content-length", "many")],
        [("content-length", "1000000")],
    ],
    ids=["one large value", "many", "a large name", "a length that is no number", "a length that is not kept"],
)
async def test_header_lists_that_http2_refuses(tmp_path: Path, headers: list[tuple[str, str | bytes]]) -> None:
    """More than 64 KiB of headers, or an impossible length, ends this connection and no other."""
    async with attacked(tmp_path, survives=False) as (running, client), raw_client(running.path) as other:
        await client.send([*grpc_headers(PULL), *headers], framed(b""))
        await client.closed.wait()
        # Without a method there is no backend to touch.
        assert (await other.call("/nothing")).status == UNIMPLEMENTED


@pytest.mark.parametrize(
    "headers",
    [
        [(":path", LIST)],
        [(":method", "POST"), (":scheme", "http"), (":path", LIST)],
        [("content-type", "application/grpc"), (":path", LIST), (":method", "POST"), (":scheme", "http")],
        [*grpc_headers(LIST), (":path", "/other")],
        [*grpc_headers(LIST), ("Upper-Case", "1"), ("connection", "close"), ("transfer-encoding", "chunked")],
    ],
    ids=["only a path", "no authority", "pseudo-headers last", "two paths", "forbidden ones"],
)
async def test_odd_header_lists(tmp_path: Path, headers: list[tuple[str, str | bytes]]) -> None:
    """They get an answer of some kind; the connection and the server go on (cri-protocol 2.2 on `:authority`)."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        answer = await client.send(headers, framed(b""))
        await answer.finished()
        assert answer.status is not None or answer.http in {"405", "415"}
        assert (await client.call(LIST)).status == OK
        await running.quiet()


@pytest.mark.parametrize("authority", ["localhost", "/run/x.sock", "%2Frun%2Fx.sock", "", "a b", None])
async def test_every_authority_is_taken(tmp_path: Path, authority: str | None) -> None:
    """GRPC clients of different ages put different things there (cri-protocol 2.2)."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        assert (await client.call(LIST, changes={":authority": authority})).status == OK


async def test_further_messages_are_passed_over(tmp_path: Path) -> None:
    """A call of one request is answered by its first message."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        answer = await client.send(grpc_headers(LIST), framed(b"") + framed(b"\xff") + b"\x00")
        await answer.finished()
        assert answer.status == OK
        await running.quiet()
