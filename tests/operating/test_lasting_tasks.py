"""Claim: every task that is meant to live as long as the server outlives an exception, and tells of it.

The tasks are found in the source, so that one that is added has to be shown here as well.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import structlog

import criimage
import criimage_containers_storage.backend
import criimage_cri.backend
import criimage_docker.backend
from criimage import lasting, problems
from criimage.channel.links import Links
from criimage.cri.criimage.v1 import GetStatusResponse
from criimage.server import app, systemd
from criimage.server.reload import Reload
from criimage.server.services.readiness import Readiness
from criimage.server.services.sandbox_pin import SandboxPin
from criimage.settings import Layers
from criimage.testing.scripted_runtime import ScriptedRuntime
from criimage_containers_storage.pulling.leftovers import Leftovers
from criimage_cri.progress import ProgressWatch
from criimage_docker.backend import DockerBackend
from parts.child import free_port
from parts.raw_client import raw_client
from parts.serving import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

PACKAGES = [Path(module.__file__ or "").parent for module in (criimage, criimage_docker, criimage_cri)]
PACKAGES.append(Path(criimage_containers_storage.__file__ or "").parent)

WORK: dict[str, tuple[object, str]] = {
    "reload": (Reload, "when"),
    "socket": (app, "watch_socket"),
    "backend check": (Readiness, "watch"),
    "ask for the sandbox image": (SandboxPin, "follow"),
    "runtime connection": (Links, "keep"),
    "watchdog": (systemd, "_beat"),
    "events of the engine": (DockerBackend, "follow"),
    "follow the downloads of containerd": (ProgressWatch, "_look_again_and_again"),
    "leftovers": (Leftovers, "watch"),
}
"""The tasks by name, and where the work of each is."""

BACKENDS: dict[str, set[str]] = {
    "docker": {"events of the engine"},
    "containers-storage": {"leftovers"},
    "cri": {"follow the downloads of containerd"},
}
"""Those that one backend alone has. All others run on every one that relays a runtime."""

ENDS_WITH = {
    "_run": "`lasting` itself, which begins it again",
    "_tick": "its pull",
    "_watch": "its pull, on docker",
    "run": "its pull, on containers-storage",
    "_listen": "its question to the image proxy",
}
"""Endless work in a task of its own that nobody means to live as long as the server, and with what it ends."""

HEALTH = "/grpc.health.v1.Health/Check"
STATUS = "/criimage.v1.StatusService/GetStatus"


def modules() -> Iterator[ast.Module]:
    for package in PACKAGES:
        for file in package.rglob("*.py"):
            if "testing" not in file.parts and "conformance" not in file.parts:
                yield ast.parse(file.read_text())


def called(node: ast.AST) -> str:
    """The last part of the name of what is called, or nothing."""
    match node:
        case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)):
            return name
    return ""


def is_endless(node: ast.AST) -> bool:
    """Whether a coroutine function has a loop that nothing in it leaves."""
    return isinstance(node, ast.AsyncFunctionDef) and any(
        isinstance(inner, ast.While)
        and isinstance(inner.test, ast.Constant)
        and not any(isinstance(leaving, ast.Return | ast.Break) for leaving in ast.walk(inner))
        for inner in ast.walk(node)
    )


def test_all_of_them_are_shown_here() -> None:
    """Whoever starts a lasting task shows below that it outlives an exception."""
    names = set()
    for module in modules():
        for node in ast.walk(module):
            if called(node) == "lasting":
                assert isinstance(node, ast.Call)
                assert isinstance(node.args[1], ast.Constant), "its name is known beforehand"
                names.add(node.args[1].value)
    assert names == WORK.keys()


def test_endless_work_is_never_in_a_bare_task() -> None:
    """What loops for ever is started by `lasting`, or ends with what it belongs to."""
    trees = list(modules())
    endless = {node.name for tree in trees for node in ast.walk(tree) if is_endless(node)}  # type: ignore[attr-defined]
    assert "_look_again_and_again" in endless, "the search finds what is endless"
    bare = {
        called(argument)
        for tree in trees
        for node in ast.walk(tree)
        if called(node) in {"create_task", "ensure_future", "start", "start_soon"}
        for argument in node.args  # type: ignore[attr-defined]
    }
    assert bare & endless == ENDS_WITH.keys()


@pytest.fixture
def events() -> Iterator[list[MutableMapping[str, Any]]]:
    """Everything that is logged."""
    with structlog.testing.capture_logs() as captured:
        yield captured


class NoSignals:
    """The test's own process keeps its handlers."""

    last_acts: list[object]

    def __init__(self, stopped: asyncio.Event, hung_up: asyncio.Event) -> None:
        self.last_acts, self.stopped, self.hung_up = [], stopped, hung_up
        NoSignals.made = self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    made: NoSignals


def failing(monkeypatch: pytest.MonkeyPatch, begun: dict[str, int]) -> None:
    """Let the work of each task fail as often as it takes until that is a standing problem."""

    def fail_first(name: str, place: object, attribute: str) -> None:
        work = getattr(place, attribute)

        @functools.wraps(work)
        async def run(*arguments: object) -> None:
            begun[name] = begun.get(name, 0) + 1
            if begun[name] <= lasting.FAILURES_TOLD:
                json.loads("[" * 100_000)
            await work(*arguments)

        monkeypatch.setattr(place, attribute, run)

    for name, (place, attribute) in WORK.items():
        fail_first(name, place, attribute)
    monkeypatch.setattr(lasting, "_Streak", functools.partial(lasting._Streak, pause=0.01))
    monkeypatch.setattr(lasting, "_failures", {})


def merged(folder: Path, backend: str, metrics: str) -> dict[str, Any]:
    table: dict[str, dict[str, object]] = {
        "docker": {"host": f"unix://{folder}/none.sock"},
        "cri": {"endpoint": f"unix://{folder}/runtime.sock"},
        "containers-storage": {
            "root": f"{folder}/root",
            "run_root": f"{folder}/run",
            "driver": "vfs",
            "tmp_dir": str(folder),
        },
    }
    return {
        "listen": f"unix://{folder}/criimage.sock",
        "backend": backend,
        "runtime": {"endpoint": f"unix://{folder}/runtime.sock"},
        "metrics": {"address": metrics},
        "backends": {backend: table[backend]},
    }


async def page(address: str) -> str:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    return text


@pytest.mark.parametrize("backend", BACKENDS)
async def test_each_outlives_an_exception_and_is_told(
    backend: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    events: list[MutableMapping[str, Any]],
) -> None:
    """Three failures in a row show in log, metric, health and status, the fourth beginning goes on with the work."""
    begun: dict[str, int] = {}
    failing(monkeypatch, begun)
    monkeypatch.setattr(app, "Signals", NoSignals)
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    expected = {name for name in WORK if name not in set().union(*BACKENDS.values())} | BACKENDS[backend]
    address = f"127.0.0.1:{free_port()}"
    layers = Layers(merged(tmp_path, backend, address))
    async with ScriptedRuntime(tmp_path / "runtime.sock"), asyncio.timeout(2 * PATIENCE):
        serving = asyncio.create_task(app.serve(layers, lambda: layers))
        try:
            await until(lambda: serving.done() or all(begun.get(name, 0) > lasting.FAILURES_TOLD for name in expected))
            assert not serving.done(), serving.result()
            told = {f"task {name}" for name in expected}
            assert told <= problems.standing().keys()
            async with raw_client(tmp_path / "criimage.sock") as client:
                health = await client.call(HEALTH)
                assert health.data[5:] == b"\x08\x02", "health says that it serves"
                status = GetStatusResponse().parse(bytes((await client.call(STATUS)).data[5:]))
            assert told <= {problem.source for problem in status.problems}
            shown = await page(address)
            for name in expected:
                # A task that has a brother of the same work, as channels have, may have failed more often.
                assert f'criimage_task_failures_total{{backend="{backend}",task="{name}"}} {begun[name] - 1}.0' in shown
            failed = [event["task"] for event in events if "begun again" in event["event"]]
            assert set(failed) == expected
            assert {name: failed.count(name) for name in expected} == dict.fromkeys(expected, lasting.FAILURES_TOLD)
            # The work itself goes on: settings are read again.
            NoSignals.made.hung_up.set()
            await until(lambda: any(event["event"] == "settings reloaded" for event in events))
        finally:
            if not serving.done():
                NoSignals.made.stopped.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(serving), PATIENCE)
    assert told.isdisjoint(problems.standing())
