"""Claims: what a call costs, counted instead of timed, so that a regression is seen on any machine.

Files opened, processes started, tasks made, fields encoded, writes to the socket and bytes sent, for each call on a
store that has not changed, once it has been read; processes and questions to the registry for what changes it.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from containers_storage.opened import opened
from containers_storage.written_store import WrittenStore
from criimage import wire
from criimage.metrics import NoMetrics
from criimage.server.app import Assembly
from criimage.server.server import _Connection
from criimage.settings import Settings
from criimage.testing.oci import image, layer
from criimage.testing.scripted_registry import Stage, scripted_registry
from criimage.work import Work
from criimage_containers_storage import plugin
from criimage_containers_storage.pulling import progress as pull_progress
from criimage_containers_storage.store import files as store_files
from parts.store import insecure_registries, store
from parts.two_ways import Sender, Transport, feed
from server.methods import LIST, STATUS, spec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path
    from typing import Any

VERSION = "/runtime.v1.RuntimeService/Version"
USAGE = "/runtime.v1.ImageService/ImageFsInfo"
IMAGES = 20
NAME = "registry.example.com/team/app-7:1"

_PROCESSES = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec"})
_counted: Counter[str] | None = None
_hooked = False


def _hook(event: str, _arguments: tuple[object, ...]) -> None:
    if _counted is None:
        return
    if event == "open":
        _counted["files"] += 1
    elif event in _PROCESSES:
        _counted["processes"] += 1
    elif event == "_thread.start_new_thread":
        _counted["threads"] += 1


@contextmanager
def counting() -> Iterator[Counter[str]]:
    """Counts what happens in this process until the block is left."""
    global _counted, _hooked
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked = True
    found: Counter[str] = Counter()
    _counted = found
    loop = asyncio.get_running_loop()
    encode = wire.length_delimited

    def encoded(number: int, value: bytes) -> bytes:
        found["encoded"] += 1
        return encode(number, value)

    def task(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> asyncio.Task[Any]:  # noqa: ANN401
        found["tasks"] += 1
        return asyncio.Task(coroutine, loop=loop, **more)

    before = loop.get_task_factory()
    loop.set_task_factory(task)
    try:
        with patch.object(wire, "length_delimited", encoded):
            yield found
    finally:
        loop.set_task_factory(before)
        _counted = None


@pytest.mark.parametrize("old", [True, False], ids=["an old store", "a store just written"])
@pytest.mark.parametrize(
    ("path", "message", "files", "encoded", "size"),
    [
        (STATUS, spec(NAME), 2, 0, 500),
        (STATUS, spec("registry.example.com/none:1"), 2, 0, 100),
        (LIST, b"", 2, 0, 500 * IMAGES),
        (USAGE, b"", 2, 0, 400),
        (VERSION, b"", 0, 0, 200),
    ],
    ids=["ImageStatus", "ImageStatus of no image", "ListImages", "ImageFsInfo", "Version"],
)
async def test_what_a_call_costs(
    tmp_path: Path,
    path: str,
    message: bytes,
    files: int,
    encoded: int,
    size: int,
    old: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On an unchanged store: no process, no task, one write; images are not encoded again.

    No file is opened, but two while the store's files are so young that their times do not prove that they are as read.
    """
    # Neither becomes the other, however long it takes here.
    monkeypatch.setattr(store_files, "_TICK", -(10**12) if old else 10**18)
    written = WrittenStore(tmp_path / "store")
    for number in range(IMAGES):
        written.add(f"registry.example.com/team/app-{number}:1")
    written.write()
    place = tmp_path / "work"
    place.mkdir()
    settings = plugin.settings_model(
        root=str(written.root), run_root=str(place), driver=written.driver, tmp_dir=str(place)
    )
    async with plugin.open(settings) as backend, Work() as work:
        assembly = Assembly(backend, work, Settings(), lambda _: NoMetrics(), {})
        connection, transport, sender = _Connection(assembly.server), Transport(), Sender()
        connection.connection_made(transport)
        sender.frame(8, 0, 0, (2**20).to_bytes(4, "big"))
        sender.setting(4, 2**20)
        for warm in (VERSION, VERSION, path, path, path):
            sender.call(warm, message if warm == path else b"")
            await feed(connection, bytes(sender.out))
            sender.out.clear()
            async with asyncio.timeout(30):
                while connection.calls.count or len(asyncio.all_tasks()) > 4:  # noqa: ASYNC110 - whatever it may be
                    await asyncio.sleep(0.01)
        writes, sent = transport.writes, len(transport.written)
        sender.call(path, message)
        with counting() as found:
            await feed(connection, bytes(sender.out))
        assert transport.written.endswith(b"\x00\x0bgrpc-status\x010")
        assert found["files"] == (0 if old else files)
        assert found["encoded"] == encoded
        assert found["processes"] == found["threads"] == found["tasks"] == 0
        assert transport.writes == writes + 1
        assert len(transport.written) - sent < size
        await assembly.stop()


@pytest.mark.engine
@pytest.mark.usefixtures("each_skopeo")
async def test_what_a_pull_and_a_removal_cost(each_way: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 12.4: one process where something changes, and none more where nothing does but for a plain question.

    The registry is asked for a manifest and nothing else where the image is here, and for nothing by a removal.
    """
    # Or a copy that takes long on a busy machine asks what there is to fetch.
    monkeypatch.setattr(pull_progress, "_WORTH_ASKING_SECONDS", 10_000.0)
    asked = 0 if each_way else 1
    with scripted_registry() as hub, store() as local:
        local.write_registries(insecure_registries("127.0.0.1"))
        warm, name = (hub.put(image(layer({"for": path.encode()})), path, "1") for path in ("warm", "counted"))
        async with opened(local) as under_test:

            async def cost(call: Callable[[str], Awaitable[object]]) -> tuple[int, list[Stage]]:
                before = len(hub.requests)
                with counting() as found:
                    await call(name)
                return found["processes"], [one.stage for one in hub.requests[before:] if one.stage is not Stage.PING]

            # A new store is tried out once, and a proxy is started by the first question.
            for _ in range(2):
                await under_test.pull(warm)
            fetched = Counter({Stage.MANIFEST: 1, Stage.CONFIG: 1, Stage.LAYER: 1})
            for _ in range(2):
                processes, stages = await cost(under_test.pull)
                assert (processes, Counter(stages)) == (1, fetched)
                assert await cost(under_test.pull) == (asked, [Stage.MANIFEST])
                assert under_test.reports[-1].unchanged
                assert await cost(under_test.remove) == (1, [])
                assert await cost(under_test.remove) == (0, [])
