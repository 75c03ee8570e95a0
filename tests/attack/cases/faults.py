"""What fails beside us: children, engines, files, disks, descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from attack.case import case
from attack.target import HEALTH, LIST, PULL, pull_request
from criimage.testing.scripted_registry import Hang, Stage
from parts.criimage_process import listens
from parts.raw_client import framed, grpc_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from attack.target import Target

STORE, DOCKER = ("containers-storage",), ("docker",)
REMOVE = "/runtime.v1.ImageService/RemoveImage"
_OK, _UNKNOWN, _UNAVAILABLE = 0, 2, 14


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, theirs included."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *children(child)]
    return found


@contextlib.asynccontextmanager
async def _running_pull(target: Target) -> AsyncIterator[asyncio.Future[object]]:
    script = target.registry.script(Stage.LAYER, Hang(), repository="attack/image")
    try:
        async with target.client() as client:
            answer = await client.send(grpc_headers(PULL), framed(pull_request(target.fresh())))
            await target.registry.until(lambda: script.reached)
            yield asyncio.ensure_future(answer.finished())
            script.release()
    finally:
        script.release()


def _on_the_tool(name: str, *signals: signal.Signals) -> None:
    @case("faults", f"skopeo gets {name}", backends=STORE, first=name == "KILL")
    async def run(target: Target) -> None:
        async with _running_pull(target) as ended:
            for number in signals:
                for child in await asyncio.to_thread(children, target.server.process.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, number)
                await asyncio.sleep(0.2)
            answer = await ended
        assert getattr(answer, "status", None) == (_OK if signals[-1] is signal.SIGCONT else _UNKNOWN), answer
        assert (await target.pull(target.fresh())).status == _OK, "the next pull failed"


_on_the_tool("KILL", signal.SIGKILL)
_on_the_tool("TERM", signal.SIGTERM)
_on_the_tool("SEGV", signal.SIGSEGV)


@case("faults", "skopeo is stopped and the pull is cancelled", backends=STORE)
async def stopped_tool(target: Target) -> None:
    """A stopped child is killed, not waited for."""
    script = target.registry.script(Stage.LAYER, Hang(), repository="attack/image")
    try:
        async with target.client() as client:
            answer = await client.send(grpc_headers(PULL), framed(pull_request(target.fresh())))
            await target.registry.until(lambda: script.reached)
            for child in await asyncio.to_thread(children, target.server.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGSTOP)
            client.cancel(answer)
            await client.flush()
        async with asyncio.timeout(20):
            while await asyncio.to_thread(children, target.server.process.pid):  # noqa: ASYNC110 - another process is waited for
                await asyncio.sleep(0.1)
    finally:
        script.release()
    assert (await target.pull(target.fresh())).status == _OK, "the next pull failed"


def _store_file(name: str, spoil: Callable[[Path], object]) -> None:
    @case("files", f"images.json: {name}", backends=STORE, first=name == "cut short")
    async def run(target: Target) -> None:
        assert target.store is not None
        assert (await target.pull()).status == _OK
        file = target.store.root / "overlay-images" / "images.json"
        kept = file.with_name("kept")
        await asyncio.to_thread(os.rename, file, kept)
        try:
            await asyncio.to_thread(spoil, file)
            answer = await target.call(LIST)
            # What was read before may go on counting; that nothing is there is the one wrong answer.
            assert answer.status != 13, f"a list answered {answer.message[:100]}"
            assert answer.status != _OK or answer.data[5:], "a list answered that there are no images"
        finally:
            await asyncio.to_thread(_replace, kept, file)
        async with asyncio.timeout(20):
            while (answer := await target.call(LIST)).status != _OK or not answer.data[5:]:  # noqa: ASYNC110 - another process is waited for
                await asyncio.sleep(0.1)


def _replace(kept: Path, file: Path) -> None:
    if file.is_dir() and not file.is_symlink():
        file.rmdir()
    kept.replace(file)


_store_file("cut short", lambda file: file.write_text('[{"id": "'))
_store_file("nested 100,000 times", lambda file: file.write_text("[" * 100_000))
_store_file("a number of 100,000 digits", lambda file: file.write_text("9" * 100_000))
_store_file("an object", lambda file: file.write_text("{}"))
_store_file("of no text", lambda file: file.write_bytes(b"\xff\xfe" * 100))
_store_file("a folder", lambda file: file.mkdir())
_store_file("a loop of links", lambda file: file.symlink_to(file))


@case("files", "policy.json is gone", backends=STORE)
async def no_policy(target: Target) -> None:
    """A pull says which file; back again, it works."""
    assert target.store is not None
    kept = target.store.policy.with_name("kept-policy")
    await asyncio.to_thread(os.rename, target.store.policy, kept)
    try:
        answer = await target.pull()
        assert answer.status == _UNKNOWN, f"answered {answer.status}"
    finally:
        await asyncio.to_thread(os.rename, kept, target.store.policy)
    assert (await target.pull()).status == _OK


@case("files", "the socket is deleted")
async def no_socket(target: Target) -> None:
    """It is there again, and another client is served all the time."""
    await asyncio.to_thread(os.unlink, target.server.socket)
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(listens, target.server.socket):  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(0.1)
    assert (await target.call(HEALTH)).status == _OK


@case("descriptors", "the limit is reached while a client is connected", first=True)
async def descriptors(target: Target) -> None:
    """It is served; the log has a line a second; later new clients are served."""
    pid = target.server.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    async with target.client() as client:
        assert (await client.call(HEALTH)).status == _OK
        used = len(await asyncio.to_thread(os.listdir, f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 3, before[1]))
        writers = []
        try:
            size = len(await asyncio.to_thread(target.server.log_text))
            for _ in range(50):
                _, writer = await asyncio.open_unix_connection(str(target.server.socket))
                writers.append(writer)
            for _ in range(100):
                assert (await client.call("/runtime.v1.RuntimeService/Version")).status == _OK
            await asyncio.sleep(2)
            grown = len(await asyncio.to_thread(target.server.log_text)) - size
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            for writer in writers:
                writer.close()
    assert grown < 10_000, f"the log grew by {grown} bytes"
    assert (await target.call(HEALTH)).status == _OK


@case("faults", "the engine is stopped, then goes on", backends=DOCKER, first=True)
async def deaf_engine(target: Target) -> None:
    """Calls end with an error or an answer, none hangs for ever; then all is well."""
    assert target.engine is not None
    with target.engine.frozen():
        answer = await target.call("/runtime.v1.RuntimeService/Status")
        assert answer.status == _OK
    async with asyncio.timeout(30):
        while (await target.call(LIST)).status != _OK:  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(0.2)


@case("faults", "the engine is killed, then started again", backends=DOCKER)
async def missing_engine(target: Target) -> None:
    """UNAVAILABLE meanwhile, without a restart of ours."""
    assert target.engine is not None
    await asyncio.to_thread(target.engine.kill)
    try:
        answer = await target.pull()
        assert answer.status == _UNAVAILABLE, f"answered {answer.status}: {answer.message[:100]}"
    finally:
        await asyncio.to_thread(target.engine.start)
    async with asyncio.timeout(30):
        while (await target.call(LIST)).status != _OK:  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(0.2)
