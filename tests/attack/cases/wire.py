"""Bytes that no real client sends."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from typing import TYPE_CHECKING

from attack.case import case
from attack.target import LIST, PULL, field
from parts.raw_client import framed, grpc_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attack.target import Target

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_OTHER_PROTOCOLS = {
    "HTTP/1": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "half a preface": _PREFACE[:10],
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "zeros": bytes(4096),
    "a frame of 16 MiB": _PREFACE + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + bytes(4096),
    "headers before settings": _PREFACE + b"\x00\x00\x01\x01\x05\x00\x00\x00\x01\x82",
    "continuation without headers": _PREFACE + b"\0\0\0\x04\0\0\0\0\0" + b"\0\0\x01\x09\x04\0\0\0\x01\x82",
    "settings of a wrong size": _PREFACE + b"\0\0\x05\x04\0\0\0\0\0" + bytes(5),
    "a window of 0": _PREFACE + b"\0\0\0\x04\0\0\0\0\0" + b"\0\0\x04\x08\0\0\0\0\0" + bytes(4),
    "push": _PREFACE + b"\0\0\0\x04\0\0\0\0\0" + b"\0\0\x05\x05\x04\0\0\0\x01\0\0\0\x02\x82",
}


async def _garbage(target: Target, data: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(str(target.server.socket))
    writer.write(data)
    writer.write_eof()
    async with asyncio.timeout(20):
        try:
            while await reader.read(2**16):
                pass
        except ConnectionError:
            pass
    writer.close()


def _protocol(name: str, data: bytes) -> None:
    @case("wire", f"another protocol: {name}", first=name == "HTTP/1")
    async def run(target: Target) -> None:
        await _garbage(target, data)


for _name, _data in _OTHER_PROTOCOLS.items():
    _protocol(_name, _data)


_HEADERS: dict[str, Mapping[str, str | bytes | None]] = {
    "no method": {":method": None},
    "GET": {":method": "GET"},
    "no content type": {"content-type": None},
    "JSON": {"content-type": "application/json"},
    "not ASCII": {"x-a": b"\xff\xfe"},
    "a bad -bin header": {"x-a-bin": "!!!"},
    "a bad timeout": {"grpc-timeout": "soon"},
    "a timeout of nothing": {"grpc-timeout": "0n"},
    "an endless timeout": {"grpc-timeout": "99999999H"},
    "compressed": {"grpc-encoding": "gzip"},
    "an unknown method": {":path": "/no.Such/Method"},
    "a path of 60 kB": {":path": "/" + "a/" * 30_000},
    "no path": {":path": ""},
    "60 kB of value": {"x-a": "v" * 60_000},
}


def _odd_headers(name: str, changes: Mapping[str, str | bytes | None]) -> None:
    @case("wire", f"headers: {name}")
    async def run(target: Target) -> None:
        async with target.client() as client:
            answer = await client.send(grpc_headers(LIST, changes), framed(b""))
            await answer.finished()


for _name, _changes in _HEADERS.items():
    _odd_headers(_name, _changes)


_BODIES = {
    "nothing": b"",
    "half a prefix": b"\0\0",
    "truncated": framed(b"abc", announced=10),
    "4 GiB announced": framed(b"abc", announced=2**32 - 1),
    "17 MiB announced": framed(b"abc", announced=17 * 2**20),
    "compressed by nothing": framed(b"abc", compressed=1),
    "two messages": framed(b"") * 2,
    "a field of a wrong type": framed(b"\x08\x01"),
    "a group": framed(b"\x0b\x0c"),
    "field number 0": framed(b"\x00\x00"),
    "an endless varint": framed(b"\xff" * 100),
    "a length beyond the end": framed(b"\x0a\x7f"),
    "not UTF-8": framed(field(1, field(1, b"\xff\xfe"))),
    "nested 10,000 times": framed(b"\x0a" * 10_000),
    "100,000 fields": framed(b"\x18\x00" * 100_000),
}


def _odd_body(name: str, body: bytes) -> None:
    @case("wire", f"message: {name}")
    async def run(target: Target) -> None:
        async with target.client() as client:
            for path in (LIST, PULL):
                answer = await client.send(grpc_headers(path), body)
                await answer.finished()
                if name not in {"two messages", "compressed by nothing", "nothing"} and path == PULL:
                    assert answer.status not in {0, None}, f"answered {answer.status}"


for _name, _data in _BODIES.items():
    _odd_body(_name, _data)


_NAMES = {
    "16 MB of a/": "a/" * 8_000_000,
    "1 MB of @": "@" * 1_000_000,
    "1 MB of :": ":" * 1_000_000,
    "1 MB of dots": "." * 1_000_000,
    "1 MB of a.a.": "a." * 500_000,
    "1 MB of -": "a" + "-" * 1_000_000,
    "an option": "--help",
    "a path": "../../etc/passwd",
    "a transport": "docker-archive:/etc/passwd",
    "line ends": "a\nb\r\nc",
    "NUL": "a\0b",
    "a terminal's codes": "\x1b[2J\x1b]0;x\x07",
    "right to left": "\u202egpj.exe",
    "an ID": "0" * 64,
    "a user": "user:password@example.com/x",
    "bad port": "example.com:99999/x",
    "only a digest": "sha256:" + "0" * 64,
}


def _odd_name(name: str, text: str) -> None:
    @case("wire", f"image name: {name}")
    async def run(target: Target) -> None:
        answer = await target.pull(text)
        assert answer.status not in {0, 13, None}, f"answered {answer.status}: {answer.message[:100]}"
        assert len(answer.message) < 5000


for _name, _text in _NAMES.items():
    _odd_name(_name, _text)


@case("wire", "10,000 random frames")
async def random_frames(target: Target) -> None:
    """A seed of its own, so that what breaks breaks again."""
    source = random.Random(8)  # noqa: S311 - reproducible bytes are wanted
    for _ in range(100):
        frames = b"".join(
            struct.pack(">I", size := source.randrange(60))[1:]
            + bytes((source.randrange(12), source.randrange(256)))
            + struct.pack(">I", source.randrange(9))
            + source.randbytes(size)
            for _ in range(100)
        )
        await _garbage(target, _PREFACE + b"\0\0\0\x04\0\0\0\0\0" + frames)


@case("wire", "1,000 connections that say nothing")
async def silent(target: Target) -> None:
    """Those beyond the number are refused, the idle ones give way."""
    made = []
    for _ in range(1000):
        one = socket.socket(socket.AF_UNIX)
        one.setblocking(False)
        try:
            one.connect(str(target.server.socket))
        except BlockingIOError:
            await asyncio.sleep(0.01)
        made.append(one)
    await asyncio.sleep(0.5)
    for one in made:
        one.close()
    assert (await target.call(LIST)).status == 0
