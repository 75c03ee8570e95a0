"""Engines and runtimes that answer nonsense. Each has a server of its own in front of it, besides the one attacked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from attack.case import case
from attack.cases.faults import children
from attack.target import HEALTH, LIST, PULL, field, pull_request
from criimage.testing.scripted_runtime import Script, ScriptedRuntime
from parts.criimage_process import criimage, store_config
from parts.raw_client import framed, grpc_headers, raw_client
from parts.store import store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from attack.target import Target
    from parts.criimage_process import Criimage

_INTERNAL = 13
_SECONDS = 30.0
_IMAGES = ("ListImages", "ImageStatus", "PullImage", "RemoveImage", "ImageFsInfo")
_RUNTIME = ("Version", "Status", "ListContainers")
_REFERENCE = "registry.example/lying/image:1"
_CALLS = (
    (LIST, b""),
    (LIST, field(1, field(1, field(1, _REFERENCE)))),
    ("/runtime.v1.ImageService/ImageStatus", field(1, field(1, _REFERENCE)) + b"\x10\x01"),
    (PULL, pull_request(_REFERENCE)),
    ("/runtime.v1.ImageService/ImageFsInfo", b""),
    ("/runtime.v1.ImageService/RemoveImage", field(1, field(1, _REFERENCE))),
    (HEALTH, b""),
)

_RUNTIMES_LIES: dict[str, Script] = {
    "nothing": Script(messages=(b"",)),
    "no message": Script(),
    "a field without its end": Script(messages=(b"\x0a\x7f",)),
    "an endless varint": Script(messages=(b"\xff" * 100,)),
    "nested 10,000 times": Script(messages=(b"\x0a" * 10_000,)),
    "a group": Script(messages=(b"\x0b\x0c",)),
    "no UTF-8": Script(messages=(field(1, field(1, b"\xff\xfe") + field(2, b"\xc3\x28")),)),
    "numbers in place of texts": Script(messages=(b"\x08\x01" * 1000,)),
    "100,000 images without an ID": Script(messages=(field(1, b"") * 100_000,)),
    "an image whose names are no names": Script(messages=(field(1, field(1, "-") + field(2, "a b\n") * 100),)),
    "two messages": Script(messages=(b"", b"")),
    "no status": Script(status=None),
    "a status that is none": Script(status=99, text="?" * 5000),
    "an error of quotes and slashes": Script(status=2, text='"' + "/" * 7000),
    "a reset": Script(reset=2),
    "the end of the connection": Script(hang_up=True),
}
_OK = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nOstype: linux\r\nContent-Type: application/json\r\n"


def _http(body: bytes, head: bytes = _OK) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


_ENGINES_LIES: dict[str, bytes] = {
    "nested 100,000 times": _http(b"[" * 100_000),
    "a number of 100,000 digits": _http(b"9" * 100_000),
    "null": _http(b"null"),
    "a list of null": _http(b"[null]"),
    "a list of numbers": _http(b"[1, 2]"),
    "an object": _http(b"{}"),
    "a list of empty objects": _http(b"[{}]"),
    "an image of wrong types": _http(
        json.dumps([{"Id": 5, "RepoTags": {"a": 1}, "Size": "x", "Created": []}]).encode()
    ),
    "infinity": _http(b'[{"Id": "sha256:%s", "Size": Infinity, "Created": NaN}]' % (b"a" * 64)),
    "half a surrogate": _http(b'[{"Id": "sha256:%s", "RepoTags": ["\\ud800:1"]}]' % (b"a" * 64)),
    "a page": _http(b"<html>" + b"<p>" * 10_000),
    "an error of 1 MB": _http(b'"' + b"/" * 1_000_000, _OK.replace(b"200 OK", b"500 X")),
    "fewer bytes than it says": _OK + b"Content-Length: 100\r\n\r\n[]",
    "a chunk of no length": _OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "no HTTP": b"\x00" * 1000,
    "a header of 1 MB": _OK + b"X-A: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "a list of 80 MiB": _http(b"[" + b" " * (80 * 2**20) + b"]"),
    "the end": b"",
}


async def _all_calls(server: Criimage, lie: str, calls: tuple[tuple[str, bytes], ...] = _CALLS) -> None:
    async with raw_client(server.socket) as client:
        for path, request in calls:
            async with asyncio.timeout(_SECONDS):
                answer = await client.call(path, request)
            assert answer.status is not None, f"{lie}: {path} has no answer"
            assert answer.status != _INTERNAL, f"{lie}: {path}: {answer.message[:200]}"
            assert len(answer.message) < 4000, f"{lie}: {path}: a text of {len(answer.message)}"
            assert answer.message.isprintable(), f"{lie}: {path}: {answer.message[:200]!r}"


async def _well_again(server: Criimage) -> None:
    async with asyncio.timeout(_SECONDS), raw_client(server.socket) as client:
        while (await client.call(LIST)).status != 0:  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def _server(config: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[Criimage]:
    with contextlib.ExitStack() as stack:
        server = await asyncio.to_thread(lambda: stack.enter_context(criimage(config, environment=environment)))
        await asyncio.to_thread(server.process.wait_until, lambda: "serving" in server.log_text(), seconds=_SECONDS)
        yield server
        await asyncio.to_thread(stack.close)


@case("liars", "a container runtime that answers nonsense, its relayed calls included", backends=("cri",), first=True)
async def runtime(target: Target) -> None:
    """No answer of it ends the server or is a fault of ours, and with sensible ones all is well."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "runtime.sock"
        async with ScriptedRuntime(place) as lying:
            config = f'backend = "cri"\n[backends.cri]\nendpoint = "unix://{place}"\nrequest_timeout = "5s"\n'
            async with _server(config) as server:
                for lie, script in _RUNTIMES_LIES.items():
                    _say(lying, script)
                    await _all_calls(server, lie)
                    async with raw_client(server.socket) as client:
                        # Whatever it is, it is the runtime's own, and the client's to judge.
                        async with asyncio.timeout(_SECONDS):
                            for method in ("Status", "ListContainers"):
                                await client.call(f"/runtime.v1.RuntimeService/{method}")
                _say(lying, Script(messages=(b"",)))
                await _well_again(server)
                assert "Traceback" not in server.log_text(), server.log_text()[-2000:]


def _say(lying: ScriptedRuntime, script: Script) -> None:
    for service, methods in (("ImageService", _IMAGES), ("RuntimeService", _RUNTIME)):
        for method in methods:
            lying.on(f"/runtime.v1.{service}/{method}", script)


@case("liars", "a Docker engine that answers nonsense", backends=("docker",))
async def engine(target: Target) -> None:
    """The same of an engine that is none."""
    said = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said)
            await writer.drain()
        writer.close()

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "docker.sock"
        async with await asyncio.start_unix_server(serve, place):
            config = f'backend = "docker"\n[backends.docker]\nhost = "unix://{place}"\n'
            async with _server(config) as server:
                for lie, said in _ENGINES_LIES.items():  # noqa: B007 - `serve` says it
                    await _all_calls(server, lie)
                said = _http(b"[]")
                await _well_again(server)
                assert "Traceback" not in server.log_text(), server.log_text()[-2000:]


# Each is what a shell does in skopeo's place, with nothing to find but what it names in full.
_TOOLS_LIES: dict[str, str] = {
    "nothing, and all is well": "exit 0",
    "nothing, and nothing is well": "exit 255",
    "nonsense": "echo '}{ <html>'; exit 0",
    "an object": "echo '{}'; exit 0",
    "nested 100,000 times": "/usr/bin/head -c 100000 /dev/zero | /usr/bin/tr '\\0' '['; exit 0",
    "50 MB of words": "/usr/bin/head -c 50000000 /dev/zero | /usr/bin/tr '\\0' '\"' >&2; exit 1",
    "50 MB of an answer": "/usr/bin/head -c 50000000 /dev/zero | /usr/bin/tr '\\0' 'a'; exit 0",
    "one fatal line of 1 MB": "printf 'level=fatal msg=\"' >&2; /usr/bin/head -c 1000000 /dev/zero"
    " | /usr/bin/tr '\\0' '/' >&2; exit 1",
    "a terminal's codes": "printf 'level=fatal msg=\"\\033[2J\\r\\nforged\"\\n' >&2; exit 1",
    "a crash": "kill -SEGV $$",
    "the end of its parent's wish": "kill -TERM $$",
}
_TOOL_MEMORY = 64 * 2**20


@case("liars", "a skopeo that does something else, and none at all", backends=("containers-storage",))
async def tool(target: Target) -> None:
    """Calls end with an error, memory stays, and with the real one all is well again."""
    real = shutil.which("skopeo")
    assert real is not None
    with tempfile.TemporaryDirectory() as folder, store() as local:
        program, name = Path(folder) / "skopeo", target.fresh()
        calls = ((PULL, pull_request(name)), *_CALLS)

        async def asked(lie: str) -> None:
            await _all_calls(server, lie, calls)
            assert _memory(server) - before < _TOOL_MEMORY, f"{lie}: what it says is kept"

        program.symlink_to(real)
        async with _server(store_config(local), {"PATH": folder}) as server:
            before = _memory(server)
            for lie, does in _TOOLS_LIES.items():
                _replace(program, f"#!/bin/sh\n{does}\n")
                await asked(lie)
            program.chmod(0o600)
            await asked("one that may not be run")
            program.unlink()
            await asked("none")
            _replace(program, "#!/bin/sh\ntrap '' TERM HUP INT\nwhile :; do /usr/bin/sleep 0.1; done\n")
            async with raw_client(server.socket) as client:
                pull = await client.send(grpc_headers(PULL), framed(pull_request(name)))
                async with asyncio.timeout(_SECONDS):
                    while not children(server.process.pid):  # noqa: ASYNC110 - another process is waited for
                        await asyncio.sleep(0.05)
                    client.cancel(pull)
                    await client.flush()
                    while children(server.process.pid):  # noqa: ASYNC110 - the same
                        await asyncio.sleep(0.05)
            program.unlink()
            program.symlink_to(real)
            async with raw_client(server.socket) as client:
                answer = await client.call(PULL, pull_request(name))
            assert answer.status == 0, answer.message
            assert "Traceback" not in server.log_text(), server.log_text()[-2000:]


def _replace(program: Path, text: str) -> None:
    program.unlink(missing_ok=True)
    program.write_text(text)
    program.chmod(0o755)


@case("relay", "100 relayed streams without an end that nobody reads", backends=("cri",), first=True)
async def unread(target: Target) -> None:
    """Other calls are answered, and no memory is filled: what is not read is not fetched."""
    events = "/runtime.v1.RuntimeService/GetContainerEvents"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "runtime.sock"
        async with ScriptedRuntime(place) as runtime:
            _say(runtime, Script(messages=(b"",)))
            runtime.on(events, Script(messages=(bytes(64 * 1024),), endless=True))
            async with _server(f'backend = "cri"\n[backends.cri]\nendpoint = "unix://{place}"\n') as server:
                before = _memory(server)
                async with raw_client(server.socket, window=1024) as deaf:
                    for _ in range(100):
                        await deaf.send(grpc_headers(events), framed(b""))
                    async with asyncio.timeout(_SECONDS):
                        while len(runtime.called("GetContainerEvents")) < 100:  # noqa: ASYNC110 - the server's turn
                            await asyncio.sleep(0.05)
                    for _ in range(10):
                        await _all_calls(server, "while nobody reads")
                    assert _memory(server) - before < 64 * 2**20, "what nobody reads is kept"
                await _well_again(server)


@case("relay", "odd calls of the runtime's methods", backends=("cri",))
async def odd(target: Target) -> None:
    """Headers and bodies that no client sends end with an error, and the connection and others go on."""
    path = "/runtime.v1.RuntimeService/Status"
    headers: tuple[dict[str, str | bytes | None], ...] = (
        {":method": "GET"},
        {"content-type": "application/json"},
        {"grpc-timeout": "soon"},
        {"grpc-timeout": "0n"},
        {"x-a": "v" * 60_000},
        {":path": path + "/" + "a/" * 30_000},
        {":path": "/runtime.v1.RuntimeService/"},
        {"x-a-bin": "!!!"},
    )
    bodies = (b"", b"\0\0", framed(b"abc", announced=2**32 - 1), framed(b"\xff" * 100), framed(b"") * 3)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "runtime.sock"
        async with ScriptedRuntime(place) as runtime:
            _say(runtime, Script(messages=(b"",)))
            async with _server(f'backend = "cri"\n[backends.cri]\nendpoint = "unix://{place}"\n') as server:
                for changes in headers:
                    async with raw_client(server.socket) as client, asyncio.timeout(_SECONDS):
                        answer = await client.send(grpc_headers(path, changes), framed(b""))
                        await answer.finished()
                for body in bodies:
                    async with raw_client(server.socket) as client, asyncio.timeout(_SECONDS):
                        answer = await client.send(grpc_headers(path), body)
                        await answer.finished()
                        assert (await client.call(HEALTH)).status == 0
                await _all_calls(server, "afterwards")
                assert "Traceback" not in server.log_text(), server.log_text()[-2000:]


def _memory(server: Criimage) -> int:
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4096
