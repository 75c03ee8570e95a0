"""Whatever comes in over the socket: a clear status, nothing touched, and the server goes on (design section 4)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from grpclib.const import Status
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from criimage.errors import InvalidRequest
from criimage.server.services import requests
from parts.raw_client import Answer, framed, grpc_headers, raw_client
from parts.serving import Serving, serving, until
from server.methods import EVERY, IMAGES, LIST, PULL, RUNTIME, STATUS, STREAM, asking, field, operation, spec, varint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from parts.raw_client import RawClient

LIMIT = 16 * 2**20
OK, UNKNOWN, INVALID, EXHAUSTED, UNIMPLEMENTED, INTERNAL = (
    Status.OK.value,
    Status.UNKNOWN.value,
    Status.INVALID_ARGUMENT.value,
    Status.RESOURCE_EXHAUSTED.value,
    Status.UNIMPLEMENTED.value,
    Status.INTERNAL.value,
)


@asynccontextmanager
async def attacked(folder: Path, *, survives: bool = True) -> AsyncIterator[tuple[Serving, RawClient]]:
    """A server and a connection to it; afterwards nothing is left and the server answers.

    Args:
        folder: for the socket.
        survives: whether the connection itself must go on, too.

    Yields:
        the server and the connection.
    """
    async with serving(folder) as running:
        async with raw_client(running.path) as client:
            yield running, client
            await running.quiet()
            assert not running.backend.calls, "the backend was touched"
            assert client.closed.is_set() is not survives
            if survives:
                assert (await client.call(LIST)).status == OK
        async with raw_client(running.path) as other:
            assert (await other.call(LIST)).status == OK
        await running.quiet()
        await until(lambda: not running.server.connections)


def refused(answer: Answer, status: int) -> None:
    """The answer has this status, and a message that says something."""
    assert answer.http == "200"
    assert answer.status == status, answer.message
    assert answer.message
    assert not answer.data
    assert "Traceback" not in answer.message


# The envelope


@pytest.mark.parametrize("path", EVERY)
async def test_no_message(tmp_path: Path, path: str) -> None:
    """A stream that ends without a message is INVALID_ARGUMENT (python-stack 1: generated handlers crash)."""
    async with attacked(tmp_path) as (_, client):
        at_once = await client.send(grpc_headers(path))
        refused(await at_once.finished(), INVALID)
        later = await client.send(grpc_headers(path), end=False)
        client.h2.end_stream(later.stream)
        await client.flush()
        refused(await later.finished(), INVALID)


@pytest.mark.parametrize("body", [b"\x00", b"\x00\x00\x00\x00", framed(b"", announced=1), framed(b"ab", announced=3)])
@pytest.mark.parametrize("path", EVERY)
async def test_a_stream_that_ends_inside_a_message(tmp_path: Path, path: str, body: bytes) -> None:
    """A message cut off, in its five bytes or behind them, is INVALID_ARGUMENT (python-stack 2: grpclib's UNKNOWN)."""
    async with attacked(tmp_path) as (_, client):
        answer = await client.send(grpc_headers(path), body)
        refused(await answer.finished(), INVALID)


@pytest.mark.parametrize("announced", [LIMIT + 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("path", EVERY)
async def test_an_announced_size_above_the_limit(tmp_path: Path, path: str, announced: int) -> None:
    """More than 16 MiB is RESOURCE_EXHAUSTED, without waiting for a byte of it (cri-protocol 2.2)."""
    async with attacked(tmp_path) as (_, client):
        answer = await client.send(grpc_headers(path), framed(b"", announced=announced), end=False)
        refused(await answer.finished(), EXHAUSTED)
        assert str(LIMIT) in answer.message
        # The client's side is still open: it is told that nothing more of it will be read.
        await until(lambda: answer.reset == 0)


async def test_a_message_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    """A client that sends its 17 MiB all the same gets the same status; its connection goes on with full windows."""
    async with attacked(tmp_path) as (_, client):
        window = client.h2.outbound_flow_control_window
        for _ in range(3):
            answer = await client.send(grpc_headers(PULL), framed(b"\0" * (LIMIT + 2**20)))
            refused(await answer.finished(), EXHAUSTED)
        refill = await client.send(grpc_headers("/nothing"), b"")
        await refill.finished()
        assert client.h2.outbound_flow_control_window > window - 2**25


@pytest.mark.parametrize("path", [LIST, PULL, STATUS])
async def test_a_request_of_exactly_the_limit_is_taken(tmp_path: Path, path: str) -> None:
    """16 MiB pass, most of it in a field that nobody knows (a kubelet's sandbox config has no limit of its own)."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        request = asking(path, "example.com/a:1")
        room = LIMIT - len(request)
        overhead = len(field(100, bytes(2**23))) - 2**23
        filler = field(100, bytes(room - overhead))
        assert len(request + filler) == LIMIT
        answer = await client.call(path, request + filler)
        assert answer.status == OK, answer.message


@pytest.mark.parametrize(
    ("encoding", "status"), [(None, INTERNAL), ("identity", INTERNAL), ("gzip", UNIMPLEMENTED), ("br", UNIMPLEMENTED)]
)
@pytest.mark.parametrize("path", EVERY)
async def test_compression(tmp_path: Path, path: str, encoding: str | None, status: int) -> None:
    """The statuses of gRPC's compression.md: INTERNAL for the flag alone, UNIMPLEMENTED for an encoding we lack."""
    async with attacked(tmp_path) as (_, client):
        headers = grpc_headers(path, {"grpc-encoding": encoding})
        answer = await client.send(headers, framed(b"\x1f\x8b", compressed=1))
        refused(await answer.finished(), status)
        if status == UNIMPLEMENTED:
            # compression.md: such an answer says what would have been understood.
            assert "identity" in {**answer.headers, **answer.trailers}["grpc-accept-encoding"]


async def test_an_announced_encoding_that_is_not_used_is_no_matter(tmp_path: Path) -> None:
    """The flag decides: a client may name an encoding and send the message plain."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        assert (await client.call(LIST, changes={"grpc-encoding": "gzip"})).status == OK


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/json", "application/grpc+json", "grpc"])
@pytest.mark.parametrize("path", [LIST, PULL, "/nothing"])
async def test_another_content_type(tmp_path: Path, path: str, content_type: str | None) -> None:
    """What is no gRPC gets HTTP's 415 (gRPC over HTTP/2)."""
    async with attacked(tmp_path) as (_, client):
        answer = await client.call(path, changes={"content-type": content_type})
        assert (answer.http, answer.status) == ("415", None)


@pytest.mark.parametrize("content_type", ["application/grpc+proto", "application/grpc;a=b", "APPLICATION/GRPC"])
async def test_spellings_of_the_content_type(tmp_path: Path, content_type: str) -> None:
    """`+proto`, parameters and capitals are gRPC all the same."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        assert (await client.call(LIST, changes={"content-type": content_type})).status == OK


@pytest.mark.parametrize("method", ["GET", "PUT", "CONNECT", "", None])
async def test_another_http_method(tmp_path: Path, method: str | None) -> None:
    """Everything but POST gets HTTP's 405."""
    async with attacked(tmp_path) as (_, client):
        answer = await client.call(LIST, changes={":method": method})
        assert (answer.http, answer.status) == ("405", None)


@pytest.mark.parametrize(
    "path",
    [
        *("/", "", "*", "//", "/runtime.v1.ImageService", "/runtime.v1.ImageService/", "/../" * 3000),
        *("/runtime.v1.ImageService/listimages", "/runtime.v2.ImageService/ListImages", "ImageService/ListImages"),
        *("/runtime.v1.ImageService/ListImages/", "/runtime.v1.ImageService/ListImages?x", "/\xe9\xff\x00\r\n%"),
        *("/runtime.v1.RuntimeService/RunPodSandbox", "/runtime.v1.RuntimeService/RuntimeConfig"),
        "/runtime.v1alpha2.ImageService/StreamImages",
    ],
    ids=lambda path: repr(path)[:50],
)
async def test_an_unknown_method(tmp_path: Path, path: str) -> None:
    """UNIMPLEMENTED, which kubelets and crictl know how to take (cri-protocol 1.1, 2.1)."""
    async with attacked(tmp_path) as (_, client):
        answer = await client.call(path)
        refused(answer, UNIMPLEMENTED)
        assert len(answer.raw_message) < 1000


# The message


@pytest.mark.parametrize(
    "message",
    [
        b"\x0a",  # a key and nothing more
        b"\x0a\x05abc",  # a field that ends before its length
        b"\x0a\xff\xff\xff\xff\x0f",  # a length of 4 GiB
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # and of 2**64-1
        b"\xff" * 11,  # a varint of more than ten bytes
        b"\x00\x00",  # field number 0
        b"\x0b\x0c",  # a group
        b"\x0e",  # wire type 6
        b"\x0f",  # wire type 7
        b"\x09abcdefg",  # seven of eight bytes
        b"\x0dabc",  # three of four bytes
        varint(2**32 << 3 | 2) + b"\x00",  # a field number beyond 2**29
    ],
    ids=lambda message: message.hex(),
)
@pytest.mark.parametrize("path", EVERY)
async def test_bytes_that_are_no_protobuf(tmp_path: Path, path: str, message: bytes) -> None:
    """INVALID_ARGUMENT on every method; betterproto takes truncated messages without a word (python-stack 1)."""
    async with attacked(tmp_path) as (_, client):
        refused(await client.call(path, message), INVALID)


_WITH_IMAGE = [path for path in (*IMAGES, STREAM) if operation(path) != "ImageFsInfo"]


@pytest.mark.parametrize("kind", [0, 1, 5], ids=["varint", "fixed64", "fixed32"])
@pytest.mark.parametrize("path", [path for path in EVERY if operation(path) != "ImageFsInfo"])
async def test_a_field_of_another_type(tmp_path: Path, path: str, kind: int) -> None:
    """The first field of each request as a number where it is none, and its first text as one: INVALID_ARGUMENT."""
    # As bytes these would be a good name.
    number = varint(1 << 3 | kind) + b"a" * {0: 1, 1: 8, 5: 4}[kind]
    wrong = [number] if operation(path) != "Status" else [varint(1 << 3 | 2) + b"\x00", varint(1 << 3 | 1) + bytes(8)]
    if path in _WITH_IMAGE:
        wrong += [field(1, number), *([field(1, field(1, number))] if "ListImages" in path or path == STREAM else [])]
    async with attacked(tmp_path) as (_, client):
        for message in wrong:
            refused(await client.call(path, message), INVALID)


@pytest.mark.parametrize("path", [path for path in _WITH_IMAGE if operation(path) == "ImageStatus"])
async def test_a_flag_of_another_type(tmp_path: Path, path: str) -> None:
    """`verbose` as text or as a fixed number is INVALID_ARGUMENT."""
    async with attacked(tmp_path) as (_, client):
        for wrong in (b"\x12\x01\x01", b"\x11" + bytes(8), b"\x15" + bytes(4)):
            refused(await client.call(path, spec("example.com/a:1") + wrong), INVALID)


@pytest.mark.parametrize("path", [*_WITH_IMAGE, "/runtime.v1.RuntimeService/Version"])
async def test_text_that_is_not_utf8(tmp_path: Path, path: str) -> None:
    """A string of other bytes is INVALID_ARGUMENT, as proto3 demands."""
    async with attacked(tmp_path) as (_, client):
        for bad in (b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\xaf"):
            message = field(1, bad) if path in RUNTIME else asking(path, b"example.com/" + bad)
            refused(await client.call(path, message), INVALID)


@pytest.mark.parametrize(
    "extra",
    [
        field(1, field(2, field(1, b"\xff") + field(2, b"v"))),
        field(1, field(2, field(1, b"k") + field(2, b"\xff"))),
        field(1, field(2, b"\x08\x01")),
        field(1, b"\x10\x01"),
        field(2, field(1, b"\xff")),
        field(2, field(2, b"\xff")),
        field(2, b"\x08\x01"),
        field(2, field(3, "not base64")),
        field(2, field(3, "YTpi\xe9")),
        b"\x10\x01",
        field(3, field(1, field(3, b"\xff"))),
        field(3, field(1, b"\x18\x01")),
        field(3, b"\x08\x01"),
        field(3, b"\x0a\x05x"),
        b"\x18\x01",
    ],
    ids=lambda extra: extra.hex(),
)
@pytest.mark.parametrize("version", ["v1", "v1alpha2"])
async def test_the_rest_of_a_pull(tmp_path: Path, version: str, extra: bytes) -> None:
    """Annotations, credentials and sandbox config are read as strictly as the name, whose request is good."""
    path = f"/runtime.{version}.ImageService/PullImage"
    async with attacked(tmp_path) as (_, client):
        refused(await client.call(path, spec("example.com/a:1") + extra), INVALID)


@pytest.mark.parametrize("path", [path for path in _WITH_IMAGE if "List" not in path and path != STREAM])
async def test_no_image_spec(tmp_path: Path, path: str) -> None:
    """A request about an image that names none: INVALID_ARGUMENT, `no image specified` (cri-o S16)."""
    async with attacked(tmp_path) as (_, client):
        for message in (b"", b"\x0a\x00", spec(""), field(2, "") if "Status" not in path else b"\x10\x01"):
            answer = await client.call(path, message)
            refused(answer, INVALID)
            assert answer.message == "no image specified"


@pytest.mark.parametrize("message", [b"", b"\x0a\x00", field(1, b"\x0a\x00"), field(1, spec(""))], ids=bytes.hex)
@pytest.mark.parametrize("path", [path for path in _WITH_IMAGE if "List" in path or path == STREAM])
async def test_an_empty_filter_is_all(tmp_path: Path, path: str, message: bytes) -> None:
    """Without filter, without ImageSpec or with an empty name the whole store is listed (cri-protocol 3.1, S15)."""
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        assert (await client.call(PULL, spec("example.com/a:1"))).status == OK
        answer = await client.call(path, message)
        assert answer.status == OK
        assert len(answer.messages) == 1
        assert answer.messages[0]


@pytest.mark.parametrize(
    "request_bytes",
    [b"\x18\x01" * 2_000_000, spec("a") * 2_000_000, field(1, field(2, field(1, "")) * 2_000_000)],
    ids=["unknown", "specs", "annotations"],
)
@pytest.mark.parametrize("path", [PULL, STATUS, LIST])
async def test_millions_of_fields(tmp_path: Path, path: str, request_bytes: bytes) -> None:
    """A message made of as many fields as fit is refused before it holds up everybody for minutes."""
    async with attacked(tmp_path) as (_, client):
        refused(await client.call(path, request_bytes[: LIMIT // 10 * 10]), INVALID)


HOSTILE_NAMES = [
    *("../../etc/passwd", "a/../b", "./a", "/etc/passwd", "a//b", "a/", "~/a", "file:///etc/passwd"),
    *("a\0b", "\0", "example.com/a:1\0", "example.com/a:1\n", "\nexample.com/a:1", "a\r\nHost: b", "a\tb", " a", "a "),
    *("-option", "--help", "--creds=a:b", "-", "example.com/-a", "example.com/a:-1", ":1", "@", "a@", "a:"),
    *("a?b=c", "a#b", "a&b", "a%2fb", "%2e%2e", "%2e%2e%2f%2e%2e", "a;b", "a|b", "$(id)", "`id`", "a'b", 'a"b', "a\\b"),
    *("\u202eb", "b\xfccher", "\uff41", "a\u200b", "\u0435", "\U0001f600", "x" * 100_000, "a/" * 50_000),
    *("http://example.com/a", "docker://a", "user:pass@example.com/a", "example.com:99x/a", "[::1/a", "EXAMPLE/a:1:2"),
    *("a@sha256:" + "0" * 63, "a@sha256:" + "G" * 64, "a@md5:" + "0" * 32, "a:" + "t" * 129, "A/B", "x" * 256),
    *("a@sha256:", "a." * 500 + "b/c"),
]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=lambda name: ascii(name)[:40])
async def test_hostile_names(tmp_path: Path, name: str) -> None:
    """Every method refuses them by the grammar: INVALID_ARGUMENT, and no backend sees them (design section 4, G7)."""
    async with attacked(tmp_path) as (_, client):
        for path in _WITH_IMAGE:
            if set("*?[") & set(name) and operation(path) in {"ListImages", "StreamImages"}:
                continue  # may be a glob there
            answer = await client.call(path, asking(path, name))
            refused(answer, INVALID)
            assert answer.message.isprintable()
            assert answer.message.isascii() or "…" in answer.message
            assert len(answer.message) < 1000


async def test_a_name_that_is_an_id_is_not_pulled(tmp_path: Path) -> None:
    """64 hexadecimal digits are an ID, never a name (N5)."""
    async with attacked(tmp_path) as (_, client):
        for name in ("0" * 64, "sha256:" + "0" * 64):
            refused(await client.call(PULL, spec(name)), INVALID)


async def test_random_bytes(tmp_path: Path) -> None:
    """Random messages get OK or INVALID_ARGUMENT, and nothing else, on every method that changes nothing."""
    import random

    source = random.Random(20)  # noqa: S311 - not for secrets
    async with serving(tmp_path) as running, raw_client(running.path) as client:
        for _ in range(300):
            message = source.randbytes(source.randrange(40))
            for path in EVERY:
                answer = await client.call(path, message)
                assert answer.status in {OK, INVALID}, (path, message)
        await running.quiet()


@given(st.binary(max_size=60))
@hypothesis_settings(max_examples=500, deadline=None)
def test_readers_raise_nothing_else(data: bytes) -> None:
    """Whatever the bytes, every reader of requests returns or raises InvalidRequest."""
    for read in (requests.read_filter, requests.read_pull, requests.read_remove, requests.read_status):
        for message in (data, field(1, data), spec(data), spec("a") + field(2, data), spec("a") + field(3, data)):
            try:
                read(message)
            except InvalidRequest:
                continue
