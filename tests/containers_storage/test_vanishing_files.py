"""Claim: what the backend needs and what vanishes while it runs is made again, or told at once everywhere."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from typing import TYPE_CHECKING

import pytest

from containers_storage.opened import opened
from criimage.cri.criimage.v1 import GetStatusResponse
from criimage.testing.oci import image, layer
from criimage.testing.scripted_registry import scripted_registry
from parts.child import free_port
from parts.criimage_process import criimage, store_config
from parts.raw_client import raw_client
from parts.store import insecure_registries, store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from parts.criimage_process import Criimage

pytestmark = pytest.mark.engine

SECONDS = 30.0
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


def gone(file: Path) -> None:
    """Nothing is there."""


def loop(file: Path) -> None:
    """A link to itself: there, and not to be read by anybody, root included."""
    file.symlink_to(file)


def no_json(file: Path) -> None:
    """Somebody was cut short while writing it."""
    file.write_text('{"auths": {')


@contextlib.contextmanager
def spoiled(file: Path, spoil: Callable[[Path], None]) -> Iterator[None]:
    kept = file.with_name("kept")
    file.rename(kept)
    try:
        spoil(file)
        yield
    finally:
        kept.replace(file)


async def told(server: Criimage, metrics: str) -> tuple[bytes, list[str], str]:
    """What health, status and the metric say now."""
    async with raw_client(server.socket) as client:
        health = bytes((await client.call("/grpc.health.v1.Health/Check")).data[5:])
        answer = await client.call("/criimage.v1.StatusService/GetStatus")
    host, _, port = metrics.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    page = (await reader.read()).decode()
    writer.close()
    texts = [problem.text for problem in GetStatusResponse().parse(bytes(answer.data[5:])).problems]
    return health, texts, next(line for line in page.splitlines() if line.startswith("criimage_problems{"))


async def test_policy_and_auth_file(tmp_path: Path) -> None:
    """Issue 8, item 7: gone, unreadable or no JSON: health, status, log and metric say so, and when it is over."""
    metrics, auth = f"127.0.0.1:{free_port()}", tmp_path / "auth.json"
    auth.write_text(json.dumps({"auths": {}}))
    with store() as local:
        config = store_config(local, more=f'[metrics]\naddress = "{metrics}"', keys=f'auth_file = "{auth}"\n')
        with criimage(config) as server:
            server.wait_for_log("serving")
            assert (await told(server, metrics))[0] == SERVING
            for file in (local.policy, auth):
                for spoil in (gone, loop, no_json):
                    before = len(server.log_text())
                    with spoiled(file, spoil):
                        health, texts, metric = await told(server, metrics)
                        case = f"{file.name} {spoil.__name__}"
                        assert health == NOT_SERVING, case
                        assert [str(file) in text for text in texts] == [True], (case, texts)
                        assert metric.endswith("} 1.0"), case
                        log = await asyncio.to_thread(server.wait_for_log, "a problem stands", since=before)
                        assert str(file) in log, case
                    assert await told(server, metrics) == (SERVING, [], metric.replace("1.0", "0.0")), case
                    await asyncio.to_thread(server.wait_for_log, "a problem is over", since=before)
            # Nobody has to ask.
            before = len(server.log_text())
            with spoiled(auth, gone):
                await asyncio.to_thread(server.wait_for_log, str(auth), since=before)


async def test_a_swept_work_folder_is_made_again() -> None:
    """Issue 8, item 7: the folder for downloads, and the one above it; a pull makes both, and they are ours alone."""
    with store() as local, scripted_registry() as hub:
        local.write_registries(insecure_registries("127.0.0.1"))
        async with opened(local) as under_test:
            for number in range(2):
                (work,) = local.tmp.glob("criimage-work-*")
                shutil.rmtree(work if number == 0 else local.tmp)
                name = hub.put(image(layer({"hello": str(number).encode()})), f"swept/n{number}")
                await under_test.pull(name)
                assert await under_test.status(name) is not None
                assert work.stat().st_mode & 0o777 == 0o700
                assert list(work.iterdir()) == []
        assert list(local.tmp.iterdir()) == []
