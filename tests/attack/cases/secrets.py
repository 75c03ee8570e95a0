"""Registries that send back what they got: whoever did not have a secret gets to see it nowhere."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from attack.case import case
from attack.target import MACHINE_SECRET, PULL, field, pull_request
from parts.echo_registry import traces
from parts.raw_client import framed, grpc_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from attack.target import Target
    from parts.echo_registry import Echo
    from parts.raw_client import Answer

REAL = ("containers-storage", "docker", "cri")
CHALLENGES = ("Basic", "Bearer")
WAYS = ("message", "redirect")

_PASSWORD = 'Staircase/corridor+"vestibule&attic<'  # noqa: S105 - of nobody
_IDENTITY = "refreshing/lemonade+icecubes"
_REGISTRY = "bearerofnews/letterbox+postage"
_PAIR = base64.b64encode(b"user:" + _PASSWORD.encode()).decode()
_CREDENTIALS = {
    "user and password": (field(1, "user") + field(2, _PASSWORD), _PASSWORD, CHALLENGES, REAL),
    "base64 of both": (field(3, _PAIR), _PASSWORD, CHALLENGES[:1], REAL),
    "an identity token": (field(5, _IDENTITY), _IDENTITY, CHALLENGES[1:], REAL),
    # Auth files have no place for one, containerd takes none.
    "a registry token": (field(6, _REGISTRY), _REGISTRY, CHALLENGES[1:], ("docker",)),
    "the machine's own": (b"", MACHINE_SECRET, CHALLENGES, ("containers-storage",)),
}
_VIEWS = (
    "/criimage.v1.PullService/ListPulls",
    "/criimage.v1.RemovalService/ListRemovals",
    "/criimage.v1.StatusService/GetStatus",
    "/runtime.v1.ImageService/ListImages",
)
_WATCH = "/criimage.v1.PullService/WatchPulls"
_CANCEL = "/criimage.v1.PullService/CancelPull"
_VERBOSE_STATUS = b"\x08\x01"


def _echo(target: Target, challenge: str) -> Echo:
    assert target.echoes is not None
    return target.echoes.basic if challenge == "Basic" else target.echoes.bearer


def _name(target: Target, challenge: str, way: str, secret: str) -> str:
    path = "machine" if secret is MACHINE_SECRET else "team"
    return f"{_echo(target, challenge).address}/{path}/{way}:1"


def _echoed(kind: str, challenge: str, way: str) -> None:
    auth, secret, _, backends = _CREDENTIALS[kind]

    @case("secrets", f"{kind}, echoed: {way}, by a registry that asks for {challenge}", backends=backends)
    async def run(target: Target) -> None:
        registry = _echo(target, challenge)
        registry.said.clear()
        async with watched(target, f"/{way}".encode()) as told:
            answer = await target.pull(_name(target, challenge, way, secret), auth)
        assert answer.status not in {0, 13}, f"answered {answer.status}"
        assert registry.got(secret), "the registry never had the secret"
        await nowhere(target, secret, answer.message.encode(), bytes(told.data))


for _kind in _CREDENTIALS:
    for _challenge in _CREDENTIALS[_kind][2]:
        for _way in WAYS:
            _echoed(_kind, _challenge, _way)
_echoed("user and password", "Basic", "fifty")
for _kind, _challenge in {
    "user and password": "Basic",
    "an identity token": "Bearer",
    "a registry token": "Bearer",
    "the machine's own": "Basic",
}.items():
    _echoed(_kind, _challenge, "across")
# skopeo shows nothing of what a token service says.
_echoed("an identity token", "Bearer", "granted")


@case("secrets", "a registry token, which this backend cannot send", backends=("containers-storage", "cri"))
async def unsendable(target: Target) -> None:
    """It is in no error about that either."""
    answer = await target.pull(_name(target, "Bearer", "message", _REGISTRY), field(6, _REGISTRY))
    assert answer.status not in {0, 13}, f"answered {answer.status}"
    await nowhere(target, _REGISTRY, answer.message.encode())


@case("secrets", "a pull that hangs with credentials shows them nowhere", backends=REAL, first=True)
async def shown(target: Target) -> None:
    """No process has them in its arguments or environment while the registry lets a client wait; no view either."""
    registry = _echo(target, "Basic")
    auth = field(1, "user") + field(2, _PASSWORD)
    registry.gate.clear()
    before = registry.held
    try:
        async with target.client() as client:
            request = pull_request(_name(target, "Basic", "message", _PASSWORD), auth)
            answer = await client.send(grpc_headers(PULL), framed(request))
            async with asyncio.timeout(30):
                while registry.held == before:  # noqa: ASYNC110 - another process is waited for
                    await asyncio.sleep(0.02)
            processes = await asyncio.to_thread(_processes)
            assert b"criimage" in processes
            listed = await target.call(_VIEWS[0])
            assert b"team/message" in listed.data, "the pull is not listed"
            await nowhere(target, _PASSWORD, processes)
            async with watched(target, b"team/message") as told:
                registry.gate.set()
                await answer.finished()
        await nowhere(target, _PASSWORD, answer.message.encode(), bytes(told.data))
    finally:
        registry.gate.set()


@case("secrets", "credentials that cannot be decoded")
async def undecodable(target: Target) -> None:
    """INVALID_ARGUMENT without the text."""
    answer = await target.pull("example.com/x", field(3, "s3cr3t!!"))
    assert answer.status == 3, f"answered {answer.status}"
    assert "s3cr3t" not in answer.message


@contextlib.asynccontextmanager
async def watched(target: Target, pull: bytes) -> AsyncIterator[Answer]:
    """Watch the pulls while the block runs, and until a pull with `pull` in its name has been told; yield all of it."""
    async with target.client() as client:
        told = await client.send(grpc_headers(_WATCH), framed(b""))
        async with asyncio.timeout(30):
            while not told.headers:  # noqa: ASYNC110 - another process is waited for
                await asyncio.sleep(0.02)
            yield told
            while pull not in told.data:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.02)
        unknown = await client.call(_CANCEL, field(1, "0"))
        told.data += unknown.message.encode()


async def nowhere(target: Target, secret: str, seen: bytes = b"", told: bytes = b"") -> None:
    """Look for a secret wherever a server could show it, and fail with the place if it does.

    Args:
        target: the server.
        secret: as `parts.echo_registry.traces` wants it.
        seen: an answer, or what else has been seen.
        told: what those who watch the pulls have got.
    """
    wanted = traces(secret)
    places = {
        "what was seen": seen,
        "WatchPulls": told,
        "log": (await asyncio.to_thread(target.server.log_text)).encode(),
    }
    for path in _VIEWS:
        places[path] = bytes((await target.call(path)).data)
    places["a verbose Status"] = bytes((await target.call("/runtime.v1.RuntimeService/Status", _VERBOSE_STATUS)).data)
    places["metrics"] = await _metrics(target.metrics)
    for place, content in (places | await asyncio.to_thread(_files_and_settings, target)).items():
        found = wanted.search(content)
        assert found is None, f"{place}: {content[max(0, found.start() - 100) : found.end() + 60]!r}"


async def _metrics(address: str) -> bytes:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    page = await reader.read()
    writer.close()
    assert b"criimage_pulls_" in page
    return page


def _files_and_settings(target: Target) -> dict[str, bytes]:
    command = [sys.executable, "-m", "criimage", "config", "dump", "--config", str(target.server.config)]
    dumped = subprocess.run(command, capture_output=True, check=True, timeout=60)
    found = {"config dump": dumped.stdout + dumped.stderr}
    folders = [target.server.folder, *([target.store.folder] if target.store else [])]
    for folder in folders:
        for file in _files(folder):
            # Where the machine keeps its own; and what a pull had left may be tidied up in this moment.
            if file.name != "auth.json":
                with contextlib.suppress(FileNotFoundError):
                    found[str(file)] = file.read_bytes()
    return found


def _files(folder: Path) -> Iterator[Path]:
    # os.walk passes over a folder that goes meanwhile.
    every = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    return (file for file in every if file.is_file() and not file.is_symlink())


def _processes() -> bytes:
    found = b""
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                found += (process / name).read_bytes()
            except OSError:
                continue
    return found
